!> Of the stand-in: the communicator, errors and warnings.
module lib_mpp
  use mpi
  use in_out_manager
  implicit none
  private
  public :: mpp_start, ctl_stop, ctl_warn
  integer, public :: mpi_comm_oce, mpprank, mppsize

contains

  subroutine mpp_start(localComm)
    integer, optional, intent(in) :: localComm
    logical :: initialized
    integer :: ierr

    call mpi_initialized(initialized, ierr)
    if (.not. initialized) call mpi_init(ierr)
    mpi_comm_oce = mpi_comm_world
    if (present(localComm)) mpi_comm_oce = localComm
    call mpi_comm_rank(mpi_comm_oce, mpprank, ierr)
    call mpi_comm_size(mpi_comm_oce, mppsize, ierr)
    lwp = mpprank == 0
  end subroutine mpp_start

  subroutine ctl_stop(cd1, cd2)
    character(len=*), intent(in) :: cd1
    character(len=*), intent(in), optional :: cd2
    nstop = nstop + 1
    if (lwp) write (numout, '(3a)') 'E R R O R ', cd1, ' '
    if (lwp .and. present(cd2)) write (numout, '(a)') cd2
  end subroutine ctl_stop

  subroutine ctl_warn(cd1)
    character(len=*), intent(in) :: cd1
    if (lwp) write (numout, '(2a)') 'W A R N I N G ', cd1
  end subroutine ctl_warn

end module lib_mpp
