!> The embedded host ocean: a facade over its parts.
!>
!> type(basin_t), target :: ocean
!> call basin_divide(MPI_COMM_WORLD, comm)     ! needed if emulator ranks run beside the model
!> call basin_init(ocean, 'namelist', comm, error)
!> call basin_step(ocean, 240, error)
!> call basin_get(ocean, 'tn', field, error)   ! whole grid, on rank 0
!> call basin_finalize(ocean, error)
!>
!> Once `ocean%stop` is raised, the emulator has asked the model to end, and further steps do nothing.
module basin
  use mpi_f08, only: MPI_Comm
  use basin_constants, only: dp
  use basin_decomposition, only: decomposition_scatter
  use basin_error, only: error_agree, error_raise, error_t, number_text
  use basin_forcing, only: forcing_spin
  use basin_halocline, only: bridge_divide, bridge_end, bridge_observe, bridge_start
  use basin_model, only: basin_t => model_t, model_check, model_collect, model_create, model_free, &
    model_rest, model_step, snapshot_create, snapshot_t
  use basin_namelist, only: namelist_read
  use basin_restart, only: restart_read, restart_write
  use basin_run, only: run_model
  use basin_settings, only: settings_help, settings_t
  implicit none
  private
  ! types
  public :: basin_t, error_t
  ! constructor, destructor
  public :: basin_divide, basin_init, basin_finalize
  ! queries
  public :: basin_shape, basin_get, basin_help
  ! actions
  public :: basin_set, basin_step, basin_run_all, basin_save

contains

  !> Part the ranks of the ocean from those of other programs in the job. Collective over `world`, before any
  !> other use of it.
  subroutine basin_divide(world, comm)
    type(MPI_Comm), intent(in) :: world
    type(MPI_Comm), intent(out) :: comm       !< for basin_init
    call bridge_divide(world, comm)
  end subroutine basin_divide

  !> Read the settings, build the model and set its start. Collective.
  subroutine basin_init(ocean, namelist_file, comm, error)
    type(basin_t), intent(inout), target :: ocean   !< stays where it is until basin_finalize
    character(len=*), intent(in) :: namelist_file
    type(MPI_Comm), intent(in) :: comm
    type(error_t), intent(inout) :: error
    type(settings_t) :: settings

    call namelist_read(settings, namelist_file, error)
    call error_agree(error, comm)
    if (error%raised) return
    call model_create(ocean, settings, comm, error)
    if (error%raised) return
    if (settings%cn_start /= 'rest') then
      call restart_read(ocean, trim(settings%cn_start), error)
    else
      call model_rest(ocean)
      ocean%kt = max(settings%nn_kt, 0)
      call forcing_spin(ocean%forcing, settings, ocean%kt)
    end if
    if (.not. error%raised) call bridge_start(ocean, error)
  end subroutine basin_init

  !> Part from the emulator, if there is one, and give back what the model holds of MPI. Collective.
  subroutine basin_finalize(ocean, error)
    type(basin_t), intent(inout), target :: ocean
    type(error_t), intent(inout) :: error
    call bridge_end(ocean, error)
    call model_free(ocean)
  end subroutine basin_finalize

  !> Global size (nx, ny, nz).
  pure function basin_shape(ocean) result(shape)
    type(basin_t), intent(in) :: ocean
    integer :: shape(3)
    shape = [ocean%grid%nx, ocean%grid%ny, ocean%grid%nz]
  end function basin_shape

  !> Advance by a number of steps, or until Halocline asks to stop, without output. Collective.
  subroutine basin_step(ocean, steps, error)
    type(basin_t), intent(inout), target :: ocean
    integer, intent(in) :: steps
    type(error_t), intent(inout) :: error
    integer :: n

    do n = 1, steps
      if (ocean%stop%raised) return
      call model_step(ocean, error)
      if (.not. error%raised) call bridge_observe(ocean, error)
      if (error%raised) return
    end do
    if (.not. ocean%stop%raised) call model_check(ocean, error)
  end subroutine basin_step

  !> Run to the end that the settings name, or until Halocline asks to stop, with all output. Collective.
  subroutine basin_run_all(ocean, error)
    type(basin_t), intent(inout), target :: ocean
    type(error_t), intent(inout) :: error
    call run_model(ocean, error)
  end subroutine basin_run_all

  !> Write a restart of the present state into the folder cn_output. Collective.
  subroutine basin_save(ocean, error)
    type(basin_t), intent(in) :: ocean
    type(error_t), intent(inout) :: error
    type(snapshot_t) :: snapshot

    call snapshot_create(snapshot, ocean)
    call model_collect(ocean, snapshot)
    if (ocean%decomposition%rank == 0) call restart_write(ocean, snapshot, error)
    call error_agree(error, ocean%decomposition%comm)
  end subroutine basin_save

  !> Field by its restart name (tn, sn, un, vn: nz levels; sshn: one) on rank 0. Collective.
  subroutine basin_get(ocean, name, field, error)
    type(basin_t), intent(in) :: ocean
    character(len=*), intent(in) :: name
    real(dp), intent(inout) :: field(:, :, :)   !< (nx, ny, levels), used on rank 0 only
    type(error_t), intent(inout) :: error
    type(snapshot_t) :: snapshot

    call check_request(ocean, name, shape(field), error)
    if (error%raised) return
    call snapshot_create(snapshot, ocean)
    call model_collect(ocean, snapshot)
    if (ocean%decomposition%rank /= 0) return
    select case (name)
    case ('tn'); field = snapshot%tn
    case ('sn'); field = snapshot%sn
    case ('un'); field = snapshot%un
    case ('vn'); field = snapshot%vn
    case ('sshn'); field = snapshot%sshn
    end select
  end subroutine basin_get

  !> Replace a field by values from rank 0; land values are ignored. Collective.
  !> Velocities follow from the other fields in the next step.
  subroutine basin_set(ocean, name, field, error)
    type(basin_t), intent(inout) :: ocean
    character(len=*), intent(in) :: name
    real(dp), intent(in) :: field(:, :, :)      !< (nx, ny, levels), used on rank 0 only
    type(error_t), intent(inout) :: error

    call check_request(ocean, name, shape(field), error)
    if (error%raised) return
    associate (parts => ocean%decomposition, geo => ocean%geo)
      select case (name)
      case ('tn')
        call decomposition_scatter(parts, geo%nk, field, ocean%ts(:, :, :, 1))
        ocean%ts(:, :, :, 1) = ocean%ts(:, :, :, 1) * geo%tmask
      case ('sn')
        call decomposition_scatter(parts, geo%nk, field, ocean%ts(:, :, :, 2))
        ocean%ts(:, :, :, 2) = ocean%ts(:, :, :, 2) * geo%tmask
      case ('un')
        call decomposition_scatter(parts, geo%nk, field, ocean%un)
        ocean%un = ocean%un * geo%umask
      case ('vn')
        call decomposition_scatter(parts, geo%nk, field, ocean%vn)
        ocean%vn = ocean%vn * geo%vmask
      case ('sshn')
        call decomposition_scatter(parts, 1, field, ocean%sshn)
        ocean%sshn = ocean%sshn * geo%tmask(:, :, 1)
      end select
    end associate
  end subroutine basin_set

  !> Check name and shape of a field; on ranks other than 0 the shape does not matter. Collective.
  subroutine check_request(ocean, name, found, error)
    type(basin_t), intent(in) :: ocean
    character(len=*), intent(in) :: name
    integer, intent(in) :: found(3)
    type(error_t), intent(inout) :: error
    integer :: expected(3)

    expected = basin_shape(ocean)
    if (name == 'sshn') expected(3) = 1
    if (all([character(len=4) :: 'tn', 'sn', 'un', 'vn', 'sshn'] /= name)) &
      call error_raise(error, 'Field '//name//' does not exist: ask for tn, sn, un, vn or sshn.')
    if (ocean%decomposition%rank == 0 .and. any(found /= expected)) &
      call error_raise(error, 'Field '//name//' must have the shape '//text(expected)//', got '// &
                       text(found)//': allocate it accordingly.')
    call error_agree(error, ocean%decomposition%comm)

  contains

    function text(sizes)
      integer, intent(in) :: sizes(3)
      character(len=:), allocatable :: text
      text = number_text(sizes(1))//' x '//number_text(sizes(2))//' x '//number_text(sizes(3))
    end function text
  end subroutine check_request

  !> Print a complete namelist with units and defaults.
  subroutine basin_help(unit)
    integer, intent(in) :: unit
    call settings_help(unit)
  end subroutine basin_help
end module basin
