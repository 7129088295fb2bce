!> The time loop of the program: steps, snapshots, restarts, diagnostics, progress.
module basin_run
  use, intrinsic :: iso_fortran_env, only: int64, output_unit
  use basin_constants, only: dp
  use basin_diagnostics, only: diagnostics_close, diagnostics_open, diagnostics_row, &
    diagnostics_t, diagnostics_write
  use basin_error, only: error_agree, error_t, number_text
  use basin_halocline, only: bridge_observe
  use basin_mesh, only: mesh_write
  use basin_model, only: model_check, model_collect, model_step, model_t, snapshot_create, snapshot_t
  use basin_restart, only: restart_name, restart_write
  use basin_states, only: states_append, states_close, states_open, states_t
  implicit none
  private
  public :: run_model

  !> What a run keeps besides the model.
  type run_t
    type(snapshot_t) :: snapshot
    type(states_t) :: states
    logical :: root = .false.
    logical :: collected = .false.     !< snapshot belongs to the present step
    integer :: series = 0              !< unit of the diagnostics
    integer :: first_kt = 0
    integer :: last_kt = 0
    integer :: row_kt = 0              !< step of the last row
    integer(int64) :: clock = 0
    integer :: progress_kt = 0
  end type run_t

contains

  !> Run the model as its settings say, or until Halocline asks to stop, and write all output. Collective.
  subroutine run_model(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    type(run_t) :: run

    call open_run(run, model, error)
    do while (model%kt < run%last_kt .and. .not. (error%raised .or. model%stop%raised))
      call model_step(model, error)
      run%collected = .false.
      if (.not. error%raised) call bridge_observe(model, error)
      if (.not. error%raised) call after_step(run, model, error)
    end do
    if (.not. error%raised .and. .not. restart_due(model, run)) call save_restart(run, model, error)
    if (run%root .and. run%series /= 0) call diagnostics_close(run%series)
    if (run%root .and. .not. error%raised) call states_close(run%states, error)
    call error_agree(error, model%decomposition%comm)
  end subroutine run_model

  !> Open the files and write the row of the start.
  subroutine open_run(run, model, error)
    type(run_t), intent(inout) :: run
    type(model_t), intent(inout) :: model
    type(error_t), intent(inout) :: error

    associate (set => model%settings)
      run%root = model%decomposition%rank == 0
      run%first_kt = model%kt
      run%row_kt = model%kt
      run%last_kt = model%kt + set%nn_years * set%steps_per_year()
      if (set%nn_steps > 0) run%last_kt = model%kt + set%nn_steps
      call snapshot_create(run%snapshot, model)
      if (run%root) then
        call mesh_write(model%grid, set%cn_output, error)
        if (.not. error%raised) &
          call diagnostics_open(run%series, set%cn_output, set%cn_name, error)
        if (set%nn_states_months > 0 .and. .not. error%raised) &
          call states_open(run%states, model, error)
      end if
    end associate
    call error_agree(error, model%decomposition%comm)
    if (error%raised) return
    call write_row(run, model)
    call system_clock(run%clock)
    run%progress_kt = model%kt
  end subroutine open_run

  !> Everything that may be due after a step.
  subroutine after_step(run, model, error)
    type(run_t), intent(inout) :: run
    type(model_t), intent(inout) :: model
    type(error_t), intent(inout) :: error
    integer :: month, interval, year

    associate (set => model%settings)
      month = set%steps_per_month()
      if ((mod(model%kt, month) == 0 .or. model%kt == run%last_kt) .and. .not. model%stop%raised) &
        call model_check(model, error)
      if (error%raised) return
      year = (model%kt - 1) / set%steps_per_year() + 1
      if (due(model%kt, set%nn_states_months * month) .and. year >= set%nn_states_year) then
        call collect(run, model)
        if (run%root) call states_append(run%states, model, run%snapshot, error)
      end if
      interval = set%nn_diag_steps
      if (interval <= 0) interval = set%steps_per_year()
      if (due(model%kt, interval)) call write_row(run, model)
      if (restart_due(model, run)) call save_restart(run, model, error)
      if (due(model%kt, set%nn_progress_years * set%steps_per_year())) call report(run, model)
    end associate
    if (mod(model%kt, month) == 0) call error_agree(error, model%decomposition%comm)
  end subroutine after_step

  !> Whether a multiple of an interval is reached; zero never is.
  pure logical function due(kt, interval)
    integer, intent(in) :: kt
    integer, intent(in) :: interval
    due = .false.
    if (interval > 0) due = mod(kt, interval) == 0
  end function due

  pure logical function restart_due(model, run)
    type(model_t), intent(in) :: model
    type(run_t), intent(in) :: run
    associate (set => model%settings)
      restart_due = due(model%kt, set%nn_restart_months * set%steps_per_month()) &
                    .and. model%kt > run%first_kt
    end associate
  end function restart_due

  !> Gather the state once per step at most. Collective.
  subroutine collect(run, model)
    type(run_t), intent(inout) :: run
    type(model_t), intent(in) :: model
    if (.not. run%collected) call model_collect(model, run%snapshot)
    run%collected = .true.
  end subroutine collect

  subroutine save_restart(run, model, error)
    type(run_t), intent(inout) :: run
    type(model_t), intent(in) :: model
    type(error_t), intent(inout) :: error
    call collect(run, model)
    if (run%root) call restart_write(model, run%snapshot, error)
    call error_agree(error, model%decomposition%comm)
    if (run%root .and. .not. error%raised) write(output_unit, '(a)') 'wrote '//restart_name(model)
  end subroutine save_restart

  !> Write a row of diagnostics and start the account of surface input anew. Collective.
  subroutine write_row(run, model)
    type(run_t), intent(inout) :: run
    type(model_t), intent(inout) :: model
    type(diagnostics_t) :: row
    real(dp) :: dt

    call collect(run, model)
    dt = model%settings%rn_dt
    if (run%root) then
      row = diagnostics_row(model, run%snapshot, (model%kt - run%row_kt) * dt)
      call diagnostics_write(run%series, model%kt, &
                             real(model%kt, dp) / model%settings%steps_per_year(), row)
    end if
    run%row_kt = model%kt
    if (model%kt == run%first_kt) return   ! an account that a restart left open goes on
    model%gain = 0.0_dp
    run%snapshot%gain = 0.0_dp
  end subroutine write_row

  !> Tell how far the run is, how fast and how long it will take.
  subroutine report(run, model)
    type(run_t), intent(inout) :: run
    type(model_t), intent(in) :: model
    integer(int64) :: now, rate
    real(dp) :: years, pace, left

    if (.not. run%root) return
    call system_clock(now, rate)
    associate (steps => real(model%settings%steps_per_year(), dp))
      years = (model%kt - run%progress_kt) / steps
      pace = years / max(real(now - run%clock, dp) / rate, 1.0e-9_dp)
      left = (run%last_kt - model%kt) / steps / pace
      write(output_unit, '(a, f9.1, a, f8.2, a, f8.1, a)') 'year', model%kt / steps, ':', pace, &
        ' model years per second, ', left, ' s left'
    end associate
    flush(output_unit)
    run%clock = now
    run%progress_kt = model%kt
  end subroutine report
end module basin_run
