!> What Python sees of the model: plain arguments only, one ocean per process.
!>
!> f90wrap reads this file. One declaration per line, no argument called self: see its notes.
!> A routine that fails returns a sentence in `message`; empty means success.
module basin_face
  use, intrinsic :: iso_c_binding, only: dp => c_double
  use mpi_f08, only: MPI_Finalize, MPI_Finalized, MPI_Init, MPI_Initialized, &
    MPI_COMM_WORLD
  use basin, only: basin_finalize, basin_get, basin_init, basin_run_all, basin_save, basin_set, &
    basin_shape, basin_step, basin_t, error_t
  use basin_error, only: error_raise
  implicit none
  private
  public :: face_init
  public :: face_step
  public :: face_run
  public :: face_save
  public :: face_get
  public :: face_set
  public :: face_shape
  public :: face_time
  public :: face_finalize

  type(basin_t), save, target, private :: ocean
  logical, save, private :: started = .false.
  logical, save, private :: own_mpi = .false.

contains

  !> Build the model from a namelist file. MPI is initialised if nobody has.
  subroutine face_init(namelist_file, message)
    character(len=*), intent(in) :: namelist_file
    character(len=512), intent(out) :: message
    type(error_t) :: error
    logical :: running

    call MPI_Initialized(running)
    if (.not. running) then
      call MPI_Init()
      own_mpi = .true.
    end if
    if (started) call basin_finalize(ocean, error)
    started = .false.
    if (.not. error%raised) call basin_init(ocean, trim(namelist_file), MPI_COMM_WORLD, error)
    started = .not. error%raised
    message = sentence(error)
  end subroutine face_init

  !> Advance by a number of steps.
  subroutine face_step(steps, message)
    integer, intent(in) :: steps
    character(len=512), intent(out) :: message
    type(error_t) :: error
    call require_start(error)
    if (started) call basin_step(ocean, steps, error)
    call heed_stop(error)
    message = sentence(error)
  end subroutine face_step

  !> Run to the end that the namelist names, with all output.
  subroutine face_run(message)
    character(len=512), intent(out) :: message
    type(error_t) :: error
    call require_start(error)
    if (started) call basin_run_all(ocean, error)
    call heed_stop(error)
    message = sentence(error)
  end subroutine face_run

  !> Write a restart of the present state.
  subroutine face_save(message)
    character(len=512), intent(out) :: message
    type(error_t) :: error
    call require_start(error)
    if (started) call basin_save(ocean, error)
    message = sentence(error)
  end subroutine face_save

  !> Copy a field out: values(nx, ny, levels), on rank 0.
  subroutine face_get(name, values, message)
    character(len=*), intent(in) :: name
    real(dp), intent(inout) :: values(:, :, :)
    character(len=512), intent(out) :: message
    type(error_t) :: error
    call require_start(error)
    if (started) call basin_get(ocean, trim(name), values, error)
    message = sentence(error)
  end subroutine face_get

  !> Replace a field: values(nx, ny, levels), from rank 0.
  subroutine face_set(name, values, message)
    character(len=*), intent(in) :: name
    real(dp), intent(inout) :: values(:, :, :)
    character(len=512), intent(out) :: message
    type(error_t) :: error
    call require_start(error)
    if (started) call basin_set(ocean, trim(name), values, error)
    message = sentence(error)
  end subroutine face_set

  !> Global size.
  subroutine face_shape(nx, ny, nz)
    integer, intent(out) :: nx
    integer, intent(out) :: ny
    integer, intent(out) :: nz
    integer :: sizes(3)
    sizes = basin_shape(ocean)    ! zeros before face_init
    nx = sizes(1)
    ny = sizes(2)
    nz = sizes(3)
  end subroutine face_shape

  !> Steps since the start of year 1 and the length of a step [s].
  subroutine face_time(kt, dt)
    integer, intent(out) :: kt
    real(dp), intent(out) :: dt
    kt = ocean%kt
    dt = ocean%settings%rn_dt
  end subroutine face_time

  !> Part from the emulator, free the model, and MPI if face_init started it.
  subroutine face_finalize(message)
    character(len=512), intent(out) :: message
    type(error_t) :: error
    logical :: over
    if (started) call basin_finalize(ocean, error)
    started = .false.
    message = sentence(error)
    call MPI_Finalized(over)
    if (own_mpi .and. .not. over) call MPI_Finalize()
  end subroutine face_finalize

  !> A run that Halocline asks to stop is an exception to the caller.
  subroutine heed_stop(error)
    type(error_t), intent(inout) :: error
    if (started .and. ocean%stop%raised) call error_raise(error, ocean%stop%text)
  end subroutine heed_stop

  subroutine require_start(error)
    type(error_t), intent(inout) :: error
    if (.not. started) call error_raise(error, 'An ocean was expected but none is built: '// &
                                        'call init with a namelist first.')
  end subroutine require_start

  function sentence(error) result(text)
    type(error_t), intent(in) :: error
    character(len=512) :: text
    text = ''
    if (error%raised) text = error%text
  end function sentence
end module basin_face
