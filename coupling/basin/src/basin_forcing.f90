!> Surface forcing: wind stress, heat flux and fresh water, with a season and noise.
!>
!> The noise is a sum of large-scale patterns, each with an amplitude that follows a first-order
!> autoregression a(n) = phi a(n-1) + sqrt(1 - phi^2) xi, phi = exp(-dt / T); xi depends on seed and
!> step only. The amplitudes are part of a restart.
module basin_forcing
  use basin_constants, only: day, days_in_year, dp, halo, pi
  use basin_decomposition, only: decomposition_localise, decomposition_t
  use basin_functions, only: scalar_cos, scalar_exp, scalar_sin
  use basin_grid, only: grid_t
  use basin_random, only: random_normal
  use basin_settings, only: settings_t
  implicit none
  private
  public :: forcing_t, forcing_create, forcing_amplitudes, forcing_spin, forcing_at
  public :: forcing_fluxes

  integer, parameter, public :: modes = 10         !< amplitudes in all
  integer, parameter :: wind_modes = 3
  integer, parameter :: heat_modes = 5
  integer, parameter :: fresh_modes = 2
  real(dp), parameter :: standard_salinity = 35.0_dp  ! g/kg, of the virtual salt flux

  type forcing_t
    real(dp) :: amplitude(modes) = 0.0_dp            !< of the noise patterns, order one
    real(dp), allocatable, dimension(:, :) :: wind, wind_shift   !< 1, zonal stress patterns at U
    real(dp), allocatable, dimension(:, :, :) :: wind_noise      !< 1, at U
    real(dp), allocatable, dimension(:, :) :: target_mean, target_season !< degC
    real(dp), allocatable, dimension(:, :, :) :: heat_noise      !< 1
    real(dp), allocatable, dimension(:, :) :: fresh              !< 1, zero area mean
    real(dp), allocatable, dimension(:, :, :) :: fresh_noise     !< 1, zero area mean
    real(dp), allocatable, dimension(:, :) :: taux   !< N/m2, zonal wind stress at U
    real(dp), allocatable, dimension(:, :) :: tstar  !< degC, target of surface temperature
    real(dp), allocatable, dimension(:, :) :: qnoise !< W/m2, stochastic heat flux
    real(dp), allocatable, dimension(:, :) :: qsalt  !< g/kg m/s, virtual salt flux
    real(dp), allocatable, dimension(:, :) :: heat   !< W/m2, net surface heat flux, last step
    real(dp), allocatable, dimension(:, :) :: salt   !< g/kg m/s, net salt flux, last step
  end type forcing_t

contains

  !> Set the patterns.
  subroutine forcing_create(this, grid, decomposition, settings)
    type(forcing_t), intent(out) :: this
    type(grid_t), intent(in) :: grid
    type(decomposition_t), intent(in) :: decomposition
    type(settings_t), intent(in) :: settings
    real(dp), dimension(grid%nx, grid%ny) :: x, y, yu
    integer :: m

    call coordinates(grid, x, y, yu)
    call cut(this%wind, -scalar_cos(2.0_dp * pi * yu))
    call cut(this%wind_shift, scalar_sin(2.0_dp * pi * yu))
    call cut_stack(this%wind_noise, scalar_cos(spread(yu, 3, wind_modes) &
                   * spread(spread([(m * pi, m = 1, wind_modes)], 1, grid%ny), 1, grid%nx)))
    call cut_stack(this%heat_noise, heat_patterns(x, y))
    call cut(this%target_mean, settings%rn_tstar_north &
             + (settings%rn_tstar_south - settings%rn_tstar_north) &
             * 0.5_dp * (1.0_dp + scalar_cos(pi * y)))
    call cut(this%target_season, -settings%rn_tstar_season * (0.25_dp + 0.75_dp * y))
    call cut(this%fresh, without_mean(grid, scalar_cos(2.0_dp * pi * (y - 0.3_dp)) - 0.4_dp * y))
    call cut_stack(this%fresh_noise, reshape([without_mean(grid, scalar_cos(pi * y)), &
                   without_mean(grid, scalar_cos(pi * x) * scalar_cos(2.0_dp * pi * y))], &
                   [grid%nx, grid%ny, fresh_modes]))
    allocate(this%taux, this%tstar, this%qnoise, this%qsalt, this%heat, this%salt, mold=this%wind)

  contains

    subroutine cut(piece, global)
      real(dp), allocatable, intent(out) :: piece(:, :)
      real(dp), intent(in) :: global(grid%nx, grid%ny)
      allocate(piece(1 - halo:decomposition%ni + halo, 1 - halo:decomposition%nj + halo))
      call decomposition_localise(decomposition, global, .true., piece)
    end subroutine cut

    subroutine cut_stack(stack, global)
      real(dp), allocatable, intent(out) :: stack(:, :, :)
      real(dp), intent(in) :: global(:, :, :)
      integer :: n
      allocate(stack(1 - halo:decomposition%ni + halo, 1 - halo:decomposition%nj + halo, &
                     size(global, 3)))
      do n = 1, size(global, 3)
        call decomposition_localise(decomposition, global(:, :, n), .true., stack(:, :, n))
      end do
    end subroutine cut_stack
  end subroutine forcing_create

  !> Coordinates in [0, 1] across the basin: x, y at T points and y at U points.
  subroutine coordinates(grid, x, y, yu)
    type(grid_t), intent(in) :: grid
    real(dp), intent(out), dimension(grid%nx, grid%ny) :: x, y, yu
    real(dp) :: south, north, west, east

    south = grid%gphiv(1, 1)
    north = grid%gphiv(1, grid%ny - 1)
    west = grid%glamu(1, 1)
    east = grid%glamu(grid%nx - 1, 1)
    x = (grid%glamt - west) / (east - west)
    y = (grid%gphit - south) / (north - south)
    yu = (grid%gphiu - south) / (north - south)
  end subroutine coordinates

  !> Large-scale patterns of the stochastic heat flux, mean square near one half each.
  pure function heat_patterns(x, y) result(pattern)
    real(dp), intent(in) :: x(:, :)
    real(dp), intent(in) :: y(:, :)
    real(dp) :: pattern(size(x, 1), size(x, 2), heat_modes)
    pattern(:, :, 1) = scalar_cos(pi * y)
    pattern(:, :, 2) = scalar_cos(2.0_dp * pi * y)
    pattern(:, :, 3) = sqrt(2.0_dp) * scalar_cos(pi * x) * scalar_sin(pi * y)
    pattern(:, :, 4) = sqrt(2.0_dp) * scalar_cos(2.0_dp * pi * x) * scalar_cos(pi * y)
    pattern(:, :, 5) = sqrt(2.0_dp) * scalar_cos(pi * x) * scalar_cos(3.0_dp * pi * y)
  end function heat_patterns

  !> A pattern on wet cells less its area mean; the remainder of the sum, an effect of rounding, is
  !> taken from one cell, so that the area integral is zero to the last bits.
  function without_mean(grid, pattern) result(balanced)
    type(grid_t), intent(in) :: grid
    real(dp), intent(in) :: pattern(grid%nx, grid%ny)
    real(dp) :: balanced(grid%nx, grid%ny)
    real(dp) :: area(grid%nx, grid%ny)
    integer :: place(2)

    area = merge(grid%e1t * grid%e2t, 0.0_dp, grid%mbathy > 0)
    balanced = merge(pattern - sum(pattern * area) / sum(area), 0.0_dp, grid%mbathy > 0)
    place = maxloc(area)
    balanced(place(1), place(2)) = balanced(place(1), place(2)) &
                                   - sum(balanced * area) / area(place(1), place(2))
  end function without_mean

  !> Advance the amplitudes of the noise to step kt.
  subroutine forcing_amplitudes(this, settings, kt)
    type(forcing_t), intent(inout) :: this
    type(settings_t), intent(in) :: settings
    integer, intent(in) :: kt
    real(dp) :: phi
    integer :: m

    phi = scalar_exp(-settings%rn_dt / (settings%rn_noise_days * day))
    do m = 1, modes
      this%amplitude(m) = phi * this%amplitude(m) &
                          + sqrt(1.0_dp - phi**2) * random_normal(settings%nn_seed, kt, m)
    end do
  end subroutine forcing_amplitudes

  !> Amplitudes at step kt for a start without a history: ten decorrelation times of noise.
  subroutine forcing_spin(this, settings, kt)
    type(forcing_t), intent(inout) :: this
    type(settings_t), intent(in) :: settings
    integer, intent(in) :: kt
    integer :: step

    this%amplitude = 0.0_dp
    do step = kt - nint(10.0_dp * settings%rn_noise_days * day / settings%rn_dt), kt
      call forcing_amplitudes(this, settings, step)
    end do
  end subroutine forcing_spin

  !> Forcing in the middle of step kt (the first step is 1); `amplitude` belongs to that step.
  subroutine forcing_at(this, settings, kt)
    type(forcing_t), intent(inout) :: this
    type(settings_t), intent(in) :: settings
    integer, intent(in) :: kt
    real(dp), parameter :: year_seconds = days_in_year * day
    real(dp) :: angle, season, wind, shift, fresh
    integer :: m, steps

    steps = settings%steps_per_year()
    angle = 2.0_dp * pi * (modulo(kt - 1, steps) + 0.5_dp) / steps
    season = scalar_cos(angle - pi / 9.0_dp)   ! coldest on 20 January
    wind = settings%rn_wind * (1.0_dp + settings%rn_wind_season * season)
    shift = 0.5_dp * settings%rn_wind * settings%rn_wind_season * season
    this%taux = wind * this%wind + shift * this%wind_shift
    do m = 1, wind_modes
      this%taux = this%taux + (settings%rn_noise_wind * this%amplitude(m)) * this%wind_noise(:, :, m)
    end do
    this%tstar = this%target_mean + season * this%target_season
    this%qnoise = 0.0_dp
    do m = 1, heat_modes
      this%qnoise = this%qnoise + (settings%rn_noise_heat / sqrt(real(heat_modes, dp)) &
                    * this%amplitude(wind_modes + m)) * this%heat_noise(:, :, m)
    end do
    fresh = standard_salinity / year_seconds
    this%qsalt = (fresh * settings%rn_fresh) * this%fresh
    do m = 1, fresh_modes
      this%qsalt = this%qsalt + (fresh * settings%rn_noise_fresh &
                   * this%amplitude(wind_modes + heat_modes + m)) * this%fresh_noise(:, :, m)
    end do
  end subroutine forcing_at

  !> Net fluxes into the ocean for the present surface: Q = lambda (T* - T) + noise [W/m2] and
  !> F = S0 (E - P) + v (S0 - S) [g/kg m/s].
  subroutine forcing_fluxes(this, settings, t_surface, s_surface, wet)
    type(forcing_t), intent(inout) :: this
    type(settings_t), intent(in) :: settings
    real(dp), intent(in) :: t_surface(:, :) !< degC
    real(dp), intent(in) :: s_surface(:, :) !< g/kg
    real(dp), intent(in) :: wet(:, :)       !< 1 on wet cells

    this%heat = wet * (settings%rn_lambda * (this%tstar - t_surface) + this%qnoise)
    this%salt = wet * (this%qsalt + (settings%rn_salt_restoring / day) &
                       * (standard_salinity - s_surface))
  end subroutine forcing_fluxes
end module basin_forcing
