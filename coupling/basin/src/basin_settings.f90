!> Settings of a run, their defaults and checks; basin_namelist reads them from a file.
!>
!> `settings_help` prints all of them with unit and meaning as a namelist.
module basin_settings
  use basin_constants, only: day, days_in_month, days_in_year, dp, path_length
  use basin_error, only: error_raise, error_t, number_text
  implicit none
  private
  public :: settings_t, settings_check, settings_help

  !> All settings, named as in the namelist file.
  type settings_t
    ! &run: what to run, from where, and what to write
    character(len=path_length) :: cn_name = 'basin' !< name of the experiment, first part of file names
    character(len=path_length) :: cn_start = 'rest' !< 'rest' or the path of a restart file
    character(len=path_length) :: cn_output = '.' !< existing folder for all output
    integer :: nn_years = 10 !< length of the run [years]
    integer :: nn_steps = 0 !< length of the run instead of nn_years if positive [steps]
    integer :: nn_kt = -1 !< step number of the start; -1: that of the restart, else 0 [step]
    real(dp) :: rn_dt = 129600.0_dp !< time step; a month of 30 days must hold whole steps [s]
    integer :: nn_states_months = 12 !< interval of snapshots in states.nc; 0: none [months]
    integer :: nn_states_year = 1 !< first model year with snapshots [year]
    integer :: nn_restart_months = 0 !< interval of restarts; 0: only at the end [months]
    integer :: nn_diag_steps = 0 !< interval of diagnostics rows; 0: one per year [steps]
    integer :: nn_progress_years = 50 !< interval of progress lines; 0: none [years]
    integer :: nn_ranks_i = 0 !< process grid along i; 0: automatic [ranks]
    integer :: nn_ranks_j = 0 !< process grid along j; 0: automatic [ranks]
    ! &grid
    integer :: nn_nx = 32 !< size along i [cells]
    integer :: nn_ny = 40 !< size along j [cells]
    integer :: nn_nz = 16 !< size along k [levels]
    real(dp) :: rn_lat0 = 10.0_dp !< latitude of the southern wall [degrees N]
    real(dp) :: rn_dlon = 2.0_dp !< spacing in longitude [degrees]
    real(dp) :: rn_dlat = 1.5_dp !< spacing in latitude [degrees]
    real(dp) :: rn_depth = 4000.0_dp !< depth of the flat floor [m]
    real(dp) :: rn_e3_top = 35.0_dp !< thickness of the first level [m]
    integer :: nn_topography = 1 !< 0 flat, 1 shelves, ridge, peninsula and island
    logical :: ln_cyclic = .false. !< eastern and western edge are connected
    ! &physics: parameters of the ocean
    real(dp) :: rn_friction = 5.0e-6_dp !< Rayleigh friction [1/s]
    real(dp) :: rn_avt0 = 5.0e-5_dp !< vertical diffusivity near the surface [m2/s]
    real(dp) :: rn_avt_deep = 1.0e-4_dp !< vertical diffusivity near the floor [m2/s]
    real(dp) :: rn_aht = 1000.0_dp !< horizontal diffusivity [m2/s]
    logical :: ln_convection = .true. !< convective adjustment
    real(dp) :: rn_t_top = 18.0_dp !< surface temperature of the start from rest [degC]
    real(dp) :: rn_t_deep = 5.0_dp !< deep temperature of the start from rest [degC]
    real(dp) :: rn_t_scale = 500.0_dp !< e-folding depth of the start from rest [m]
    real(dp) :: rn_salinity = 35.0_dp !< salinity of the start from rest [g/kg]
    ! &forcing: what drives the ocean
    real(dp) :: rn_wind = 0.12_dp !< amplitude of the double-gyre wind stress [N/m2]
    real(dp) :: rn_wind_season = 0.2_dp !< relative seasonal change of the wind [1]
    real(dp) :: rn_lambda = 40.0_dp !< restoring of surface temperature [W/m2/K]
    real(dp) :: rn_tstar_south = 25.0_dp !< target temperature at the southern wall [degC]
    real(dp) :: rn_tstar_north = 2.5_dp !< target temperature at the northern wall [degC]
    real(dp) :: rn_tstar_season = 3.5_dp !< seasonal amplitude of the target in the north [degC]
    real(dp) :: rn_fresh = 0.15_dp !< amplitude of evaporation minus precipitation [m/year]
    real(dp) :: rn_salt_restoring = 0.0_dp !< piston velocity of salinity restoring; 0 keeps salt [m/day]
    real(dp) :: rn_noise_wind = 0.02_dp !< standard deviation of the stochastic wind stress [N/m2]
    real(dp) :: rn_noise_heat = 15.0_dp !< standard deviation of the stochastic heat flux [W/m2]
    real(dp) :: rn_noise_fresh = 0.1_dp !< standard deviation of the stochastic fresh water [m/year]
    real(dp) :: rn_noise_days = 60.0_dp !< decorrelation time of the stochastic forcing [days]
    integer :: nn_seed = 1 !< seed of the stochastic forcing
    ! &halocline: the emulator that starts and judges the model
    character(len=path_length) :: cn_config = '' !< configuration of the bridge (YAML); '': no emulator
    logical :: ln_generate = .false. !< start from a generated state instead of cn_start
  contains
    procedure :: steps_per_month
    procedure :: steps_per_year
  end type settings_t

contains

  !> Time steps in a month of 30 days.
  pure integer function steps_per_month(this)
    class(settings_t), intent(in) :: this
    steps_per_month = nint(days_in_month * day / this%rn_dt)
  end function steps_per_month

  !> Time steps in a year of 360 days.
  pure integer function steps_per_year(this)
    class(settings_t), intent(in) :: this
    steps_per_year = this%steps_per_month() * (days_in_year / days_in_month)
  end function steps_per_year

  !> Check values against each other where the wrong one can still be named.
  subroutine settings_check(settings, error)
    type(settings_t), intent(in) :: settings
    type(error_t), intent(inout) :: error
    real(dp) :: steps

    associate (set => settings)
      steps = days_in_month * day / set%rn_dt
      call positive('rn_dt', set%rn_dt, error)
      if (set%rn_dt > 0.0_dp .and. abs(steps - nint(steps)) > 1.0e-9_dp) then
        call error_raise(error, 'rn_dt must divide a month of 2592000 s, got '// &
                         number_text(set%rn_dt)//': try 86400, 129600 or 172800.')
      end if
      call at_least('nn_nx', set%nn_nx, 5, error)
      call at_least('nn_ny', set%nn_ny, 5, error)
      call at_least('nn_nz', set%nn_nz, 3, error)
      call at_least('nn_years', set%nn_years, 0, error)
      call at_least('nn_states_months', set%nn_states_months, 0, error)
      call at_least('nn_restart_months', set%nn_restart_months, 0, error)
      call positive('rn_friction', set%rn_friction, error)
      call positive('rn_dlon', set%rn_dlon, error)
      call positive('rn_dlat', set%rn_dlat, error)
      call positive('rn_e3_top', set%rn_e3_top, error)
      call positive('rn_noise_days', set%rn_noise_days, error)
      call positive('rn_t_scale', set%rn_t_scale, error)
      if (set%rn_depth < (set%nn_nz - 1) * set%rn_e3_top) then
        call error_raise(error, 'rn_depth must hold '//number_text(set%nn_nz - 1)// &
                         ' levels of rn_e3_top, got '//number_text(set%rn_depth)//' m: enlarge it.')
      end if
      if (abs(set%rn_lat0) > 80.0_dp .or. set%rn_lat0 + set%nn_ny * set%rn_dlat > 86.0_dp) then
        call error_raise(error, 'The basin must end south of 86 N, got rn_lat0 + nn_ny rn_dlat = '// &
                         number_text(set%rn_lat0 + set%nn_ny * set%rn_dlat)// &
                         ': choose smaller rn_dlat or nn_ny.')
      end if
      if (set%ln_generate .and. set%cn_config == '') then
        call error_raise(error, 'ln_generate needs an emulator, got an empty cn_config: name the '// &
                         'configuration of the bridge.')
      end if
      if (set%nn_topography < 0 .or. set%nn_topography > 1) then
        call error_raise(error, 'nn_topography must be 0 or 1, got '// &
                         number_text(set%nn_topography)//': choose one of them.')
      end if
    end associate
  end subroutine settings_check

  subroutine positive(name, value, error)
    character(len=*), intent(in) :: name
    real(dp), intent(in) :: value
    type(error_t), intent(inout) :: error
    if (value > 0.0_dp) return
    call error_raise(error, name//' must be positive, got '//number_text(value)//': enlarge it.')
  end subroutine positive

  subroutine at_least(name, value, low, error)
    character(len=*), intent(in) :: name
    integer, intent(in) :: value
    integer, intent(in) :: low
    type(error_t), intent(inout) :: error
    if (value >= low) return
    call error_raise(error, name//' must be at least '//number_text(low)//', got '// &
                     number_text(value)//': enlarge it.')
  end subroutine at_least

  !> Print a complete namelist with defaults, units and meanings, ready to be used as a file.
  subroutine settings_help(unit)
    integer, intent(in) :: unit
    type(settings_t) :: d

    write(unit, '(a)') '! what to run, from where, and what to write'
    write(unit, '(a)') '&run'
    call text_line('cn_name', d%cn_name, 'name of the experiment, first part of file names')
    call text_line('cn_start', d%cn_start, '''rest'' or the path of a restart file')
    call text_line('cn_output', d%cn_output, 'existing folder for all output')
    call integer_line('nn_years', d%nn_years, '[years] length of the run')
    call integer_line('nn_steps', d%nn_steps, &
      '[steps] length of the run instead of nn_years if positive')
    call integer_line('nn_kt', d%nn_kt, &
      '[step] step number of the start; -1: that of the restart, else 0')
    call real_line('rn_dt', d%rn_dt, '[s] time step; a month of 30 days must hold whole steps')
    call integer_line('nn_states_months', d%nn_states_months, &
      '[months] interval of snapshots in states.nc; 0: none')
    call integer_line('nn_states_year', d%nn_states_year, '[year] first model year with snapshots')
    call integer_line('nn_restart_months', d%nn_restart_months, &
      '[months] interval of restarts; 0: only at the end')
    call integer_line('nn_diag_steps', d%nn_diag_steps, &
      '[steps] interval of diagnostics rows; 0: one per year')
    call integer_line('nn_progress_years', d%nn_progress_years, &
      '[years] interval of progress lines; 0: none')
    call integer_line('nn_ranks_i', d%nn_ranks_i, '[ranks] process grid along i; 0: automatic')
    call integer_line('nn_ranks_j', d%nn_ranks_j, '[ranks] process grid along j; 0: automatic')
    write(unit, '(a)') '/'
    write(unit, '(a)') '! spherical sector, z levels;'
    write(unit, '(a)') '! row 1, row ny and level nz are land, so are the columns 1 and nx unless cyclic'
    write(unit, '(a)') '&grid'
    call integer_line('nn_nx', d%nn_nx, '[cells] size along i')
    call integer_line('nn_ny', d%nn_ny, '[cells] size along j')
    call integer_line('nn_nz', d%nn_nz, '[levels] size along k')
    call real_line('rn_lat0', d%rn_lat0, '[degrees N] latitude of the southern wall')
    call real_line('rn_dlon', d%rn_dlon, '[degrees] spacing in longitude')
    call real_line('rn_dlat', d%rn_dlat, '[degrees] spacing in latitude')
    call real_line('rn_depth', d%rn_depth, '[m] depth of the flat floor')
    call real_line('rn_e3_top', d%rn_e3_top, '[m] thickness of the first level')
    call integer_line('nn_topography', d%nn_topography, &
      '0 flat, 1 shelves, ridge, peninsula and island')
    call logical_line('ln_cyclic', d%ln_cyclic, 'eastern and western edge are connected')
    write(unit, '(a)') '/'
    write(unit, '(a)') '! parameters of the ocean'
    write(unit, '(a)') '&physics'
    call real_line('rn_friction', d%rn_friction, '[1/s] Rayleigh friction')
    call real_line('rn_avt0', d%rn_avt0, '[m2/s] vertical diffusivity near the surface')
    call real_line('rn_avt_deep', d%rn_avt_deep, '[m2/s] vertical diffusivity near the floor')
    call real_line('rn_aht', d%rn_aht, '[m2/s] horizontal diffusivity')
    call logical_line('ln_convection', d%ln_convection, 'convective adjustment')
    call real_line('rn_t_top', d%rn_t_top, '[degC] surface temperature of the start from rest')
    call real_line('rn_t_deep', d%rn_t_deep, '[degC] deep temperature of the start from rest')
    call real_line('rn_t_scale', d%rn_t_scale, '[m] e-folding depth of the start from rest')
    call real_line('rn_salinity', d%rn_salinity, '[g/kg] salinity of the start from rest')
    write(unit, '(a)') '/'
    write(unit, '(a)') '! what drives the ocean'
    write(unit, '(a)') '&forcing'
    call real_line('rn_wind', d%rn_wind, '[N/m2] amplitude of the double-gyre wind stress')
    call real_line('rn_wind_season', d%rn_wind_season, &
      '[1] relative seasonal change of the wind')
    call real_line('rn_lambda', d%rn_lambda, '[W/m2/K] restoring of surface temperature')
    call real_line('rn_tstar_south', d%rn_tstar_south, &
      '[degC] target temperature at the southern wall')
    call real_line('rn_tstar_north', d%rn_tstar_north, &
      '[degC] target temperature at the northern wall')
    call real_line('rn_tstar_season', d%rn_tstar_season, &
      '[degC] seasonal amplitude of the target in the north')
    call real_line('rn_fresh', d%rn_fresh, &
      '[m/year] amplitude of evaporation minus precipitation')
    call real_line('rn_salt_restoring', d%rn_salt_restoring, &
      '[m/day] piston velocity of salinity restoring; 0 keeps salt')
    call real_line('rn_noise_wind', d%rn_noise_wind, &
      '[N/m2] standard deviation of the stochastic wind stress')
    call real_line('rn_noise_heat', d%rn_noise_heat, &
      '[W/m2] standard deviation of the stochastic heat flux')
    call real_line('rn_noise_fresh', d%rn_noise_fresh, &
      '[m/year] standard deviation of the stochastic fresh water')
    call real_line('rn_noise_days', d%rn_noise_days, &
      '[days] decorrelation time of the stochastic forcing')
    call integer_line('nn_seed', d%nn_seed, 'seed of the stochastic forcing')
    write(unit, '(a)') '/'
    write(unit, '(a)') '! the emulator that starts and judges the model'
    write(unit, '(a)') '&halocline'
    call text_line('cn_config', d%cn_config, 'configuration of the bridge (YAML); empty: no emulator')
    call logical_line('ln_generate', d%ln_generate, 'start from a generated state; cn_start is what to fall back on')
    write(unit, '(a)') '/'

  contains

    subroutine line(name, value, meaning)
      character(len=*), intent(in) :: name
      character(len=*), intent(in) :: value
      character(len=*), intent(in) :: meaning
      character(len=20) :: left
      character(len=12) :: right
      left = name
      right = value
      write(unit, '(2x, 2a, a, 2a)') left, '= ', right, ' ! ', meaning
    end subroutine line

    subroutine text_line(name, value, meaning)
      character(len=*), intent(in) :: name, value, meaning
      call line(name, "'"//trim(value)//"'", meaning)
    end subroutine text_line

    subroutine integer_line(name, value, meaning)
      character(len=*), intent(in) :: name, meaning
      integer, intent(in) :: value
      call line(name, number_text(value), meaning)
    end subroutine integer_line

    subroutine real_line(name, value, meaning)
      character(len=*), intent(in) :: name, meaning
      real(dp), intent(in) :: value
      call line(name, number_text(value), meaning)
    end subroutine real_line

    subroutine logical_line(name, value, meaning)
      character(len=*), intent(in) :: name, meaning
      logical, intent(in) :: value
      call line(name, merge('.true. ', '.false.', value), meaning)
    end subroutine logical_line
  end subroutine settings_help
end module basin_settings
