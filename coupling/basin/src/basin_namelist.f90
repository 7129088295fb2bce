!> Settings from a Fortran namelist file with the groups &run, &grid, &physics, &forcing and &halocline.
!>
!> Groups and variables may be left out; unknown ones are errors.
module basin_namelist
  use basin_constants, only: dp, path_length
  use basin_error, only: error_raise, error_t
  use basin_settings, only: settings_check, settings_t
  implicit none
  private
  public :: namelist_read

contains

  !> Read a namelist file; groups and variables that it does not name keep their defaults.
  subroutine namelist_read(settings, file, error)
    type(settings_t), intent(out) :: settings
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: unit, status
    character(len=256) :: message
    logical :: there

    inquire(file=file, exist=there)
    if (.not. there) then
      call error_raise(error, 'Namelist file '//trim(file)//' was expected but does not exist: '// &
                       'give the path of a file, basin.x --help prints one.')
      return
    end if
    open(newunit=unit, file=file, status='old', action='read', iostat=status, iomsg=message)
    if (status /= 0) then
      call error_raise(error, 'Namelist file '//trim(file)//' cannot be opened: '//trim(message)//'.')
      return
    end if
    call check_groups(unit, file, error)
    call read_run(settings, unit, file, error)
    call read_grid(settings, unit, file, error)
    call read_physics(settings, unit, file, error)
    call read_forcing(settings, unit, file, error)
    call read_halocline(settings, unit, file, error)
    close(unit)
    if (.not. error%raised) call settings_check(settings, error)
  end subroutine namelist_read

  !> Refuse groups that nobody would read.
  subroutine check_groups(unit, file, error)
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    character(len=256) :: line
    character(len=:), allocatable :: name
    integer :: status, last

    do
      read(unit, '(a)', iostat=status) line
      if (status /= 0) exit
      line = adjustl(line)
      if (line(1:1) /= '&') cycle
      last = scan(line, ' !/,') - 1
      name = line(2:last)
      if (all([character(len=9) :: 'run', 'grid', 'physics', 'forcing', 'halocline'] /= name)) then
        call error_raise(error, 'Namelist '//trim(file)//': group &'//name// &
                         ' was found, expected &run, &grid, &physics, &forcing or &halocline: '// &
                         'correct its name.')
      end if
    end do
  end subroutine check_groups

  !> Turn the status of a namelist read into a sentence; a missing group is no error.
  subroutine check_read(group, file, status, message, error)
    character(len=*), intent(in) :: group
    character(len=*), intent(in) :: file
    integer, intent(in) :: status
    character(len=*), intent(in) :: message
    type(error_t), intent(inout) :: error
    if (status <= 0) return
    call error_raise(error, 'Namelist '//trim(file)//', group &'//group//': '//trim(message)// &
                     '; basin.x --help lists the variables and their types.')
  end subroutine check_read

  !> Read group &run.
  subroutine read_run(settings, unit, file, error)
    type(settings_t), intent(inout) :: settings
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status
    character(len=256) :: message
    character(len=path_length) :: cn_name
    character(len=path_length) :: cn_start
    character(len=path_length) :: cn_output
    integer :: nn_years
    integer :: nn_steps
    integer :: nn_kt
    real(dp) :: rn_dt
    integer :: nn_states_months
    integer :: nn_states_year
    integer :: nn_restart_months
    integer :: nn_diag_steps
    integer :: nn_progress_years
    integer :: nn_ranks_i
    integer :: nn_ranks_j
    namelist /run/ cn_name, cn_start, cn_output, nn_years, nn_steps, nn_kt, rn_dt, &
      nn_states_months, nn_states_year, nn_restart_months, nn_diag_steps, nn_progress_years, &
      nn_ranks_i, nn_ranks_j

    cn_name = settings%cn_name
    cn_start = settings%cn_start
    cn_output = settings%cn_output
    nn_years = settings%nn_years
    nn_steps = settings%nn_steps
    nn_kt = settings%nn_kt
    rn_dt = settings%rn_dt
    nn_states_months = settings%nn_states_months
    nn_states_year = settings%nn_states_year
    nn_restart_months = settings%nn_restart_months
    nn_diag_steps = settings%nn_diag_steps
    nn_progress_years = settings%nn_progress_years
    nn_ranks_i = settings%nn_ranks_i
    nn_ranks_j = settings%nn_ranks_j
    rewind(unit)
    read(unit, nml=run, iostat=status, iomsg=message)
    call check_read('run', file, status, message, error)
    settings%cn_name = cn_name
    settings%cn_start = cn_start
    settings%cn_output = cn_output
    settings%nn_years = nn_years
    settings%nn_steps = nn_steps
    settings%nn_kt = nn_kt
    settings%rn_dt = rn_dt
    settings%nn_states_months = nn_states_months
    settings%nn_states_year = nn_states_year
    settings%nn_restart_months = nn_restart_months
    settings%nn_diag_steps = nn_diag_steps
    settings%nn_progress_years = nn_progress_years
    settings%nn_ranks_i = nn_ranks_i
    settings%nn_ranks_j = nn_ranks_j
  end subroutine read_run

  !> Read group &grid.
  subroutine read_grid(settings, unit, file, error)
    type(settings_t), intent(inout) :: settings
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status
    character(len=256) :: message
    integer :: nn_nx
    integer :: nn_ny
    integer :: nn_nz
    real(dp) :: rn_lat0
    real(dp) :: rn_dlon
    real(dp) :: rn_dlat
    real(dp) :: rn_depth
    real(dp) :: rn_e3_top
    integer :: nn_topography
    logical :: ln_cyclic
    namelist /grid/ nn_nx, nn_ny, nn_nz, rn_lat0, rn_dlon, rn_dlat, rn_depth, rn_e3_top, &
      nn_topography, ln_cyclic

    nn_nx = settings%nn_nx
    nn_ny = settings%nn_ny
    nn_nz = settings%nn_nz
    rn_lat0 = settings%rn_lat0
    rn_dlon = settings%rn_dlon
    rn_dlat = settings%rn_dlat
    rn_depth = settings%rn_depth
    rn_e3_top = settings%rn_e3_top
    nn_topography = settings%nn_topography
    ln_cyclic = settings%ln_cyclic
    rewind(unit)
    read(unit, nml=grid, iostat=status, iomsg=message)
    call check_read('grid', file, status, message, error)
    settings%nn_nx = nn_nx
    settings%nn_ny = nn_ny
    settings%nn_nz = nn_nz
    settings%rn_lat0 = rn_lat0
    settings%rn_dlon = rn_dlon
    settings%rn_dlat = rn_dlat
    settings%rn_depth = rn_depth
    settings%rn_e3_top = rn_e3_top
    settings%nn_topography = nn_topography
    settings%ln_cyclic = ln_cyclic
  end subroutine read_grid

  !> Read group &physics.
  subroutine read_physics(settings, unit, file, error)
    type(settings_t), intent(inout) :: settings
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status
    character(len=256) :: message
    real(dp) :: rn_friction
    real(dp) :: rn_avt0
    real(dp) :: rn_avt_deep
    real(dp) :: rn_aht
    logical :: ln_convection
    real(dp) :: rn_t_top
    real(dp) :: rn_t_deep
    real(dp) :: rn_t_scale
    real(dp) :: rn_salinity
    namelist /physics/ rn_friction, rn_avt0, rn_avt_deep, rn_aht, ln_convection, rn_t_top, &
      rn_t_deep, rn_t_scale, rn_salinity

    rn_friction = settings%rn_friction
    rn_avt0 = settings%rn_avt0
    rn_avt_deep = settings%rn_avt_deep
    rn_aht = settings%rn_aht
    ln_convection = settings%ln_convection
    rn_t_top = settings%rn_t_top
    rn_t_deep = settings%rn_t_deep
    rn_t_scale = settings%rn_t_scale
    rn_salinity = settings%rn_salinity
    rewind(unit)
    read(unit, nml=physics, iostat=status, iomsg=message)
    call check_read('physics', file, status, message, error)
    settings%rn_friction = rn_friction
    settings%rn_avt0 = rn_avt0
    settings%rn_avt_deep = rn_avt_deep
    settings%rn_aht = rn_aht
    settings%ln_convection = ln_convection
    settings%rn_t_top = rn_t_top
    settings%rn_t_deep = rn_t_deep
    settings%rn_t_scale = rn_t_scale
    settings%rn_salinity = rn_salinity
  end subroutine read_physics

  !> Read group &forcing.
  subroutine read_forcing(settings, unit, file, error)
    type(settings_t), intent(inout) :: settings
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status
    character(len=256) :: message
    real(dp) :: rn_wind
    real(dp) :: rn_wind_season
    real(dp) :: rn_lambda
    real(dp) :: rn_tstar_south
    real(dp) :: rn_tstar_north
    real(dp) :: rn_tstar_season
    real(dp) :: rn_fresh
    real(dp) :: rn_salt_restoring
    real(dp) :: rn_noise_wind
    real(dp) :: rn_noise_heat
    real(dp) :: rn_noise_fresh
    real(dp) :: rn_noise_days
    integer :: nn_seed
    namelist /forcing/ rn_wind, rn_wind_season, rn_lambda, rn_tstar_south, rn_tstar_north, &
      rn_tstar_season, rn_fresh, rn_salt_restoring, rn_noise_wind, rn_noise_heat, &
      rn_noise_fresh, rn_noise_days, nn_seed

    rn_wind = settings%rn_wind
    rn_wind_season = settings%rn_wind_season
    rn_lambda = settings%rn_lambda
    rn_tstar_south = settings%rn_tstar_south
    rn_tstar_north = settings%rn_tstar_north
    rn_tstar_season = settings%rn_tstar_season
    rn_fresh = settings%rn_fresh
    rn_salt_restoring = settings%rn_salt_restoring
    rn_noise_wind = settings%rn_noise_wind
    rn_noise_heat = settings%rn_noise_heat
    rn_noise_fresh = settings%rn_noise_fresh
    rn_noise_days = settings%rn_noise_days
    nn_seed = settings%nn_seed
    rewind(unit)
    read(unit, nml=forcing, iostat=status, iomsg=message)
    call check_read('forcing', file, status, message, error)
    settings%rn_wind = rn_wind
    settings%rn_wind_season = rn_wind_season
    settings%rn_lambda = rn_lambda
    settings%rn_tstar_south = rn_tstar_south
    settings%rn_tstar_north = rn_tstar_north
    settings%rn_tstar_season = rn_tstar_season
    settings%rn_fresh = rn_fresh
    settings%rn_salt_restoring = rn_salt_restoring
    settings%rn_noise_wind = rn_noise_wind
    settings%rn_noise_heat = rn_noise_heat
    settings%rn_noise_fresh = rn_noise_fresh
    settings%rn_noise_days = rn_noise_days
    settings%nn_seed = nn_seed
  end subroutine read_forcing

  !> Read group &halocline.
  subroutine read_halocline(settings, unit, file, error)
    type(settings_t), intent(inout) :: settings
    integer, intent(in) :: unit
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status
    character(len=256) :: message
    character(len=path_length) :: cn_config
    logical :: ln_generate
    namelist /halocline/ cn_config, ln_generate

    cn_config = settings%cn_config
    ln_generate = settings%ln_generate
    rewind(unit)
    read(unit, nml=halocline, iostat=status, iomsg=message)
    call check_read('halocline', file, status, message, error)
    settings%cn_config = cn_config
    settings%ln_generate = ln_generate
  end subroutine read_halocline
end module basin_namelist
