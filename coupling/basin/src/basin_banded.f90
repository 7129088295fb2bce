!> Direct solution of a banded linear system, factored once.
!>
!> LU without pivoting: safe here because the symmetric part of the free-surface matrix is positive
!> definite (the Coriolis part is skew and does no work). Columns are stored, so that substitution
!> is a sequence of vector updates, and the order of operations never depends on the process grid.
module basin_banded
  use basin_constants, only: dp
  implicit none
  private
  public :: banded_t, banded_create, banded_add, banded_factor, banded_solve

  type banded_t
    integer :: n = 0                      !< unknowns
    integer :: width = 0                  !< half bandwidth
    real(dp), allocatable :: band(:, :)   !< element (row, column) at (row - column, column)
    real(dp), allocatable :: pivot(:)     !< inverse diagonal of U after factoring
  end type banded_t

contains

  !> Create a zero matrix of n unknowns and half bandwidth `width`.
  subroutine banded_create(matrix, n, width)
    type(banded_t), intent(out) :: matrix
    integer, intent(in) :: n
    integer, intent(in) :: width
    matrix%n = n
    matrix%width = width
    allocate(matrix%band(-width:width, n), source=0.0_dp)
    allocate(matrix%pivot(n), source=0.0_dp)
  end subroutine banded_create

  !> Add a value to element (row, column).
  subroutine banded_add(matrix, row, column, value)
    type(banded_t), intent(inout) :: matrix
    integer, intent(in) :: row
    integer, intent(in) :: column
    real(dp), intent(in) :: value
    matrix%band(row - column, column) = matrix%band(row - column, column) + value
  end subroutine banded_add

  !> Replace the matrix by its factors L (unit diagonal) and U.
  subroutine banded_factor(matrix)
    type(banded_t), intent(inout) :: matrix
    integer :: column, next, last, reach
    real(dp) :: upper

    do column = 1, matrix%n
      reach = min(matrix%width, matrix%n - column)
      matrix%pivot(column) = 1.0_dp / matrix%band(0, column)
      matrix%band(1:reach, column) = matrix%band(1:reach, column) * matrix%pivot(column)
      last = column + reach
      do next = column + 1, last
        upper = matrix%band(column - next, next)
        matrix%band(column + 1 - next:last - next, next) = &
          matrix%band(column + 1 - next:last - next, next) - upper * matrix%band(1:reach, column)
      end do
    end do
  end subroutine banded_factor

  !> Solve in place: x holds the right-hand side on entry, the solution on return.
  subroutine banded_solve(matrix, x)
    type(banded_t), intent(in) :: matrix
    real(dp), intent(inout) :: x(:)
    integer :: column, reach

    do column = 1, matrix%n
      reach = min(matrix%width, matrix%n - column)
      x(column + 1:column + reach) = x(column + 1:column + reach) &
                                     - matrix%band(1:reach, column) * x(column)
    end do
    do column = matrix%n, 1, -1
      reach = min(matrix%width, column - 1)
      x(column) = x(column) * matrix%pivot(column)
      x(column - reach:column - 1) = x(column - reach:column - 1) &
                                     - matrix%band(-reach:-1, column) * x(column)
    end do
  end subroutine banded_solve
end module basin_banded
