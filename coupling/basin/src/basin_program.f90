!> basin.x NAMELIST: run the embedded host ocean, alone or under mpirun.
program basin_program
  use, intrinsic :: iso_fortran_env, only: error_unit, output_unit
  use mpi_f08
  use basin, only: basin_finalize, basin_help, basin_init, basin_run_all, basin_t, error_t
  use basin_constants, only: path_length
  use basin_error, only: error_raise
  implicit none
  type(basin_t) :: ocean
  type(error_t) :: error
  character(len=path_length) :: argument
  integer :: rank

  call MPI_Init()
  call MPI_Comm_rank(MPI_COMM_WORLD, rank)
  argument = ''
  if (command_argument_count() == 1) call get_command_argument(1, argument)
  if (argument == '--help' .or. argument == '-h') then
    if (rank == 0) call print_usage()
    call MPI_Finalize()
    stop
  end if
  if (argument == '') &
    call error_raise(error, 'One namelist file was expected as argument: basin.x --help prints one.')
  if (.not. error%raised) call basin_init(ocean, trim(argument), MPI_COMM_WORLD, error)
  if (.not. error%raised) call basin_run_all(ocean, error)
  if (error%raised) call leave(error)
  call basin_finalize(ocean)
  call MPI_Finalize()

contains

  subroutine print_usage()
    write(output_unit, '(a)') '! Usage: basin.x NAMELIST      or      mpirun -n 4 basin.x NAMELIST'
    write(output_unit, '(a)') '! The namelist with its defaults; name only what differs.'
    call basin_help(output_unit)
  end subroutine print_usage

  !> Say what went wrong, once, and end all ranks.
  subroutine leave(failure)
    type(error_t), intent(in) :: failure
    if (rank == 0) then
      write(error_unit, '(a)') 'basin: '//failure%text
      flush(error_unit)
    end if
    call MPI_Barrier(MPI_COMM_WORLD)
    call MPI_Abort(MPI_COMM_WORLD, 1)
  end subroutine leave
end program basin_program
