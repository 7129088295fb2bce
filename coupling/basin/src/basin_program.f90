!> basin.x NAMELIST: run the embedded host ocean, alone or under mpirun, with or without Halocline.
!>
!> Exit codes: 0 the end of the run; 1 an error; 3 Halocline asked to stop, the restart is written; 81 to 86 Halocline
!> failed, see the bridge's table of status codes.
program basin_program
  use, intrinsic :: iso_fortran_env, only: error_unit, output_unit
  use mpi_f08
  use basin, only: basin_divide, basin_finalize, basin_help, basin_init, basin_run_all, basin_t, error_t
  use basin_constants, only: path_length
  use basin_error, only: error_raise
  implicit none
  integer, parameter :: asked_to_stop = 3
  type(basin_t), target :: ocean
  type(error_t) :: error
  type(MPI_Comm) :: comm
  character(len=path_length) :: argument
  integer :: rank

  call MPI_Init()
  argument = ''
  if (command_argument_count() == 1) call get_command_argument(1, argument)
  if (argument == '--help' .or. argument == '-h') then
    call print_usage()
    call MPI_Finalize()
    stop
  end if
  call basin_divide(MPI_COMM_WORLD, comm)
  call MPI_Comm_rank(comm, rank)
  if (argument == '') &
    call error_raise(error, 'One namelist file was expected as argument: basin.x --help prints one.')
  if (.not. error%raised) call basin_init(ocean, trim(argument), comm, error)
  if (.not. error%raised) call basin_run_all(ocean, error)
  if (.not. error%raised) call basin_finalize(ocean, error)
  if (error%raised) call leave(error)
  call MPI_Finalize()
  if (ocean%stop%raised) stop asked_to_stop, quiet=.true.

contains

  subroutine print_usage()
    call MPI_Comm_rank(MPI_COMM_WORLD, rank)
    if (rank /= 0) return
    write(output_unit, '(a)') '! Usage: basin.x NAMELIST      or      mpirun -n 4 basin.x NAMELIST'
    write(output_unit, '(a)') '! The namelist with its defaults; name only what differs.'
    call basin_help(output_unit)
  end subroutine print_usage

  !> Say what went wrong, and end the job. The others wait for rank 0 to do so: were all to abort at once, launchers would
  !> fill the terminal.
  subroutine leave(failure)
    type(error_t), intent(in) :: failure
    if (rank == 0) then
      write(error_unit, '(a)') 'basin: '//failure%text
      flush(error_unit)
      call MPI_Abort(MPI_COMM_WORLD, failure%code)
    end if
    call MPI_Barrier(comm)
  end subroutine leave
end program basin_program
