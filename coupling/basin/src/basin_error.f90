!> Errors as values: one sentence that names what was expected, what was found and what to do.
!>
!> Routines that can fail take an `error_t`; the caller decides whether to stop. On several ranks
!> `error_agree` makes the first failure known to all, so that nobody waits for a rank that left.
module basin_error
  use mpi_f08
  implicit none
  private
  public :: error_t, error_raise, error_agree, number_text

  type error_t
    logical :: raised = .false.
    integer :: code = 1                !< exit code of a program that ends for it
    character(len=:), allocatable :: text
  end type error_t

  !> Number as text without leading blanks.
  interface number_text
    module procedure integer_text
    module procedure real_text
  end interface number_text

contains

  !> Raise an error unless one is raised already: the first cause is the one to read.
  subroutine error_raise(error, text, code)
    type(error_t), intent(inout) :: error
    character(len=*), intent(in) :: text
    integer, intent(in), optional :: code
    if (error%raised) return
    error%raised = .true.
    error%text = text
    if (present(code)) error%code = code
  end subroutine error_raise

  !> Give every rank the error of the lowest rank that raised one. Collective.
  subroutine error_agree(error, comm)
    type(error_t), intent(inout) :: error
    type(MPI_Comm), intent(in) :: comm
    integer :: rank, size, first, mine, length
    character(len=:), allocatable :: text

    call MPI_Comm_rank(comm, rank)
    call MPI_Comm_size(comm, size)
    mine = merge(rank, size, error%raised)
    call MPI_Allreduce(mine, first, 1, MPI_INTEGER, MPI_MIN, comm)
    if (first == size) return
    length = 0
    if (rank == first) length = len(error%text)
    call MPI_Bcast(length, 1, MPI_INTEGER, first, comm)
    allocate(character(len=length) :: text)
    if (rank == first) text = error%text
    call MPI_Bcast(text, length, MPI_CHARACTER, first, comm)
    call MPI_Bcast(error%code, 1, MPI_INTEGER, first, comm)
    error%raised = .true.
    error%text = text
  end subroutine error_agree

  pure function integer_text(value) result(text)
    integer, intent(in) :: value
    character(len=:), allocatable :: text
    character(len=16) :: buffer
    write(buffer, '(i0)') value
    text = trim(buffer)
  end function integer_text

  pure function real_text(value) result(text)
    use basin_constants, only: dp
    real(dp), intent(in) :: value
    character(len=:), allocatable :: text
    character(len=32) :: buffer
    write(buffer, '(g0.6)') value
    text = trim(adjustl(buffer))
  end function real_text
end module basin_error
