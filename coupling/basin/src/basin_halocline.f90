!> Halocline in the model's processes or beside them: a generated start, and verdicts while the model runs.
!>
!> The library is one per process, and so is what is kept here. `basin_halocline_off` stands in where basin is built
!> without it.
module basin_halocline
  use mpi_f08, only: MPI_Comm
  use, intrinsic :: iso_fortran_env, only: output_unit
  use basin_constants, only: day, dp, halo
  use basin_error, only: error_agree, error_raise, error_t, number_text
  use basin_forcing, only: forcing_spin
  use basin_model, only: model_t
  use basin_restart, only: date_of
  use halocline
  implicit none
  private
  public :: bridge_divide, bridge_start, bridge_observe, bridge_end

  logical :: attached = .false.
  logical :: warned = .false.          !< that the policy asks for what basin cannot do

contains

  !> Part the ranks of basin from those of other programs in the job; a failure ends the job. Collective over `world`.
  subroutine bridge_divide(world, comm)
    type(MPI_Comm), intent(in) :: world
    type(MPI_Comm), intent(out) :: comm       !< ranks of basin
    call halocline_split(world, 'basin', comm)
  end subroutine bridge_divide

  !> Attach, declare grid and fields, and replace the state by a generated one if the settings ask for it. Collective.
  subroutine bridge_start(model, error)
    type(model_t), intent(inout), target :: model   !< stays where it is until bridge_end
    type(error_t), intent(inout) :: error
    integer :: status

    if (model%settings%cn_config == '') return
    associate (set => model%settings)
      call halocline_init(model%decomposition%comm, trim(set%cn_config), status)
      call take(status, error)
      if (error%raised) return
      attached = .true.
      warned = .false.
      call declare_grid(model, error)
      call declare_fields(model, error)
      call error_agree(error, model%decomposition%comm)
      if (error%raised) return
      call halocline_ready('360_day', set%rn_dt, model%kt, start_date(model), status)
      call take(status, error)
      if (set%ln_generate .and. .not. error%raised) call generate(model, error)
    end associate
  end subroutine bridge_start

  !> Declare the grid without NEMO's last level, which is land and which basin does not keep.
  subroutine declare_grid(model, error)
    type(model_t), intent(in), target :: model
    type(error_t), intent(inout) :: error
    integer :: status

    associate (parts => model%decomposition)
      call halocline_grid([parts%nx, parts%ny, model%geo%nk], [parts%first_i, parts%first_j], &
                          model%geo%tmask, halo, status)
    end associate
    call take(status, error)
  end subroutine declare_grid

  !> Register the state, where it lies.
  subroutine declare_fields(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    integer :: status

    call register('temperature', model%ts(:, :, :, 1), 'T', 'degC', error)
    call register('salinity', model%ts(:, :, :, 2), 'T', '1e-3', error)
    call register('velocity_u', model%un, 'U', 'm/s', error)
    call register('velocity_v', model%vn, 'V', 'm/s', error)
    if (error%raised) return
    call halocline_field('sea_level', model%sshn, 'T', 'm', halo, status)
    call take(status, error)
  end subroutine declare_fields

  subroutine register(name, field, point, unit, error)
    character(len=*), intent(in) :: name
    real(dp), intent(inout), target :: field(:, :, :)
    character(len=*), intent(in) :: point
    character(len=*), intent(in) :: unit
    type(error_t), intent(inout) :: error
    integer :: status

    if (error%raised) return
    call halocline_field(name, field, point, unit, halo, status)
    call take(status, error)
  end subroutine register

  !> Date yyyymmdd of the day in which the run starts.
  pure integer function start_date(model)
    type(model_t), intent(in) :: model
    integer :: whole_days
    whole_days = floor(model%kt * model%settings%rn_dt / day)
    start_date = date_of(whole_days + 1.0_dp)
  end function start_date

  !> Replace the state by a generated one, as if it had been read from a restart with these five fields. Collective.
  subroutine generate(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    type(halocline_verdict_t) :: verdict
    integer :: status

    call halocline_generate(verdict, status)
    call take(status, error)
    if (error%raised) return
    if (verdict%action == HALOCLINE_FALL_BACK) then
      call say(model, 'basin keeps the start of cn_start: '//halocline_reason(verdict))
      return
    end if
    model%gain = 0.0_dp
    call forcing_spin(model%forcing, model%settings, model%kt)
    call say(model, 'basin starts from a generated state: '//halocline_reason(verdict))
    if (verdict%action == HALOCLINE_STOP) call stop_for(model, verdict)
  end subroutine generate

  !> Hand the state over at the end of a step, and heed the verdict. Collective.
  subroutine bridge_observe(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    type(halocline_verdict_t) :: verdict
    integer :: status

    if (.not. attached) return
    call halocline_observe(model%kt, verdict, status)
    call take(status, error)
    if (.not. error%raised) call heed(model, verdict)
  end subroutine bridge_observe

  !> Part from the emulator, which may have verdicts left to tell. Collective.
  subroutine bridge_end(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    type(halocline_verdict_t) :: verdict
    integer :: status

    if (.not. attached) return
    attached = .false.
    call halocline_finalize(verdict, status)
    call take(status, error)
    if (.not. error%raised) call heed(model, verdict)
  end subroutine bridge_end

  !> Do what the policy asks; while it runs, basin has nothing to fall back on.
  subroutine heed(model, verdict)
    type(model_t), intent(inout) :: model
    type(halocline_verdict_t), intent(in) :: verdict

    if (verdict%action == HALOCLINE_STOP) call stop_for(model, verdict)
    if (verdict%action /= HALOCLINE_FALL_BACK .or. warned) return
    warned = .true.
    call say(model, 'basin has no other scheme to fall back on and goes on after step '// &
             number_text(int(verdict%step))//': '//halocline_reason(verdict)// &
             ' This is told once; the log of verdicts has all.')
  end subroutine heed

  !> Keep the first reason for which the model is asked to end.
  subroutine stop_for(model, verdict)
    type(model_t), intent(inout) :: model
    type(halocline_verdict_t), intent(in) :: verdict
    if (model%stop%raised) return
    call error_raise(model%stop, 'Halocline asks to stop, for the state of step '// &
                     number_text(int(verdict%step))//': '//halocline_reason(verdict))
    call say(model, model%stop%text)
  end subroutine stop_for

  subroutine say(model, text)
    type(model_t), intent(in) :: model
    character(len=*), intent(in) :: text
    if (model%decomposition%rank /= 0) return
    write(output_unit, '(a)') text
    flush(output_unit)
  end subroutine say

  !> Turn a status into an error. After a failure the library answers no further call.
  subroutine take(status, error)
    integer, intent(in) :: status
    type(error_t), intent(inout) :: error
    if (status == HALOCLINE_SUCCESS) return
    call error_raise(error, halocline_message(), code=80 + status)
  end subroutine take
end module basin_halocline
