!> Host for the tests of the bridge: basin_host_nan NAMELIST LAST BAD runs the ocean LAST steps. After step BAD one sea
!> cell of the last rank holds a NaN, as if memory were overwritten; it is healed once Halocline has judged.
program host_nan
  use, intrinsic :: ieee_arithmetic, only: ieee_quiet_nan, ieee_value
  use, intrinsic :: iso_fortran_env, only: error_unit
  use mpi_f08
  use basin, only: basin_divide, basin_finalize, basin_init, basin_save, basin_t, error_t
  use basin_constants, only: dp
  use basin_halocline, only: bridge_observe
  use basin_model, only: model_step
  implicit none
  type(basin_t), target :: ocean
  type(error_t) :: error
  type(MPI_Comm) :: comm

  call MPI_Init()
  call basin_divide(MPI_COMM_WORLD, comm)
  call basin_init(ocean, word(1), comm, error)
  do while (ocean%kt < number(2) .and. .not. (error%raised .or. ocean%stop%raised))
    call model_step(ocean, error)
    if (.not. error%raised) call judge(spoil=ocean%kt == number(3))
  end do
  if (.not. error%raised) call basin_save(ocean, error)
  if (.not. error%raised) call basin_finalize(ocean, error)
  if (error%raised) then
    write(error_unit, '(a)') error%text
    flush(error_unit)
    call MPI_Abort(MPI_COMM_WORLD, error%code)
  end if
  call MPI_Finalize()
  if (ocean%stop%raised) stop 3, quiet=.true.

contains

  !> Let Halocline see the state, or one with a NaN in it.
  subroutine judge(spoil)
    logical, intent(in) :: spoil
    real(dp) :: healthy
    integer :: cell(2)

    cell = maxloc(ocean%geo%levels(1:ocean%geo%ni, 1:ocean%geo%nj))
    associate (value => ocean%ts(cell(1), cell(2), 1, 2), parts => ocean%decomposition)
      healthy = value
      if (spoil .and. parts%rank == parts%size - 1) value = ieee_value(value, ieee_quiet_nan)
      call bridge_observe(ocean, error)
      value = healthy
    end associate
  end subroutine judge

  function word(n) result(text)
    integer, intent(in) :: n
    character(len=:), allocatable :: text
    integer :: length
    call get_command_argument(n, length=length)
    allocate(character(len=length) :: text)
    call get_command_argument(n, text)
  end function word

  integer function number(n)
    integer, intent(in) :: n
    character(len=:), allocatable :: digits
    digits = word(n)
    read(digits, *) number
  end function number
end program host_nan
