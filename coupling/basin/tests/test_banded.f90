!> The direct solver against the residual of a matrix that is not symmetric.
program test_banded
  use basin_banded, only: banded_add, banded_create, banded_factor, banded_solve, banded_t
  use basin_constants, only: dp
  use basin_random, only: random_normal
  use test_support, only: expect, report
  implicit none
  integer, parameter :: n = 53, width = 7
  type(banded_t) :: matrix
  real(dp) :: dense(n, n), x(n), right(n)
  integer :: row, column

  call banded_create(matrix, n, width)
  dense = 0.0_dp
  do column = 1, n
    do row = max(1, column - width), min(n, column + width)
      dense(row, column) = random_normal(3, row, column)
      if (row == column) dense(row, column) = dense(row, column) + 4.0_dp * width
      call banded_add(matrix, row, column, dense(row, column))
    end do
  end do
  right = random_normal(4, [(row, row = 1, n)], 1)
  x = right
  call banded_factor(matrix)
  call banded_solve(matrix, x)
  ! Backward stable for this dominant diagonal: residual of a few n epsilon times |right| ~ 1.
  call expect(maxval(abs(matmul(dense, x) - right)) < 1.0e-13_dp, 'A x equals the right-hand side')
  call expect(maxval(abs(dense - transpose(dense))) > 0.1_dp, 'the matrix is not symmetric')
  call report()
end program test_banded
