!> Advection and diffusion of a tracer in flux form, with implicit vertical diffusion.
!>
!>   h' T' = h T - dt div(U T_face - A grad T) + dt flux,  h = e3t, in the first level e3t + eta
!>
!> Face values are those of the upwind cell plus half a limited slope times (1 - Courant number):
!> second order where the tracer is smooth, upwind at extrema (monotonised central limiter,
!> van Leer 1977). Every flux leaves one cell and enters another, so content is conserved to
!> round-off; a constant stays constant because the volume fluxes close with the sea level.
module basin_tracers
  use basin_constants, only: dp, halo
  use basin_functions, only: scalar_tanh
  use basin_geometry, only: geometry_t
  use basin_settings, only: settings_t
  implicit none
  private
  public :: mixing_t, mixing_create, volume_flux_t, volume_flux_create, tracers_prepare
  public :: tracers_advect, tracers_mix

  !> Factors of the tridiagonal system of vertical diffusion, eliminated from the floor upwards;
  !> only the first level, whose thickness moves, is left for the step.
  type mixing_t
    real(dp), allocatable :: conduct(:)        !< m, dt A / e3w of the upper face of each level
    real(dp), allocatable :: inverse(:, :, :)  !< 1/m, inverse pivots of the levels below the first
  end type mixing_t

  !> Volume that crosses the faces during a step and the share of the slope at the faces.
  type volume_flux_t
    real(dp), allocatable, dimension(:, :, :) :: east, east_share    !< m3 and 1, at U
    real(dp), allocatable, dimension(:, :, :) :: north, north_share  !< m3 and 1, at V
  end type volume_flux_t

contains

  !> Factor the vertical diffusion. Diffusivity rises from rn_avt0 to rn_avt_deep around 2000 m.
  subroutine mixing_create(mixing, geo, settings)
    type(mixing_t), intent(out) :: mixing
    type(geometry_t), intent(in) :: geo
    type(settings_t), intent(in) :: settings
    real(dp), allocatable :: diffusivity(:), below(:, :), above(:, :)
    integer :: k

    diffusivity = settings%rn_avt0 + (settings%rn_avt_deep - settings%rn_avt0) &
                  * 0.5_dp * (1.0_dp + scalar_tanh((geo%gdepw - 2000.0_dp) / 700.0_dp))
    mixing%conduct = settings%rn_dt * diffusivity / geo%e3w
    mixing%conduct(1) = 0.0_dp
    allocate(mixing%inverse, mold=geo%tmask)
    allocate(below, above, mold=geo%area)
    below = 0.0_dp
    do k = geo%nk, 1, -1
      above = mixing%conduct(k) * geo%tmask(:, :, k)
      mixing%inverse(:, :, k) = geo%tmask(:, :, k) / (geo%e3t(k) + above + below)
      below = above - above**2 * mixing%inverse(:, :, k)
    end do
  end subroutine mixing_create

  !> Make room for the volume fluxes.
  subroutine volume_flux_create(flux, geo)
    type(volume_flux_t), intent(out) :: flux
    type(geometry_t), intent(in) :: geo
    associate (ni => geo%ni, nj => geo%nj, nk => geo%nk)
      allocate(flux%east(0:ni, nj, nk), flux%east_share(0:ni, nj, nk))
      allocate(flux%north(ni, 0:nj, nk), flux%north_share(ni, 0:nj, nk))
    end associate
  end subroutine volume_flux_create

  !> Volume that crosses the faces during a step [m3] and the share of the slope, (1 - c) / 2.
  subroutine tracers_prepare(geo, ni, nj, nk, u, v, dt, flux)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: u, v !< m/s
    real(dp), intent(in) :: dt                                                         !< s
    type(volume_flux_t), intent(inout) :: flux
    integer :: i, j, k

    do k = 1, nk
      do j = 1, nj
        do i = 0, ni
          flux%east(i, j, k) = dt * (geo%e3t(k) * (geo%e2u(i, j) * u(i, j, k)))
          flux%east_share(i, j, k) = 0.5_dp - 0.5_dp * dt * abs(u(i, j, k)) * geo%re1u(i, j)
        end do
      end do
      do j = 0, nj
        do i = 1, ni
          flux%north(i, j, k) = dt * (geo%e3t(k) * (geo%e1v(i, j) * v(i, j, k)))
          flux%north_share(i, j, k) = 0.5_dp - 0.5_dp * dt * abs(v(i, j, k)) * geo%re2v(i, j)
        end do
      end do
    end do
  end subroutine tracers_prepare

  !> Slope between the differences on both sides: zero at extrema, else at most twice the smaller.
  elemental real(dp) function limited(before, after, central)
    real(dp), intent(in) :: before
    real(dp), intent(in) :: after
    real(dp), intent(in) :: central
    limited = (sign(0.5_dp, before) + sign(0.5_dp, after)) &
              * min(2.0_dp * min(abs(before), abs(after)), abs(central))
  end function limited

  !> Content per area [tracer m] after advection, horizontal diffusion and the surface flux.
  subroutine tracers_advect(geo, ni, nj, nk, tracer, flux, w, ssh, surface, diffusivity, dt, content)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in) :: tracer(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    type(volume_flux_t), intent(in) :: flux
    real(dp), intent(in) :: w(ni, nj, nk + 1)                           !< m3/s, upper faces, upward
    real(dp), intent(in) :: ssh(1 - halo:ni + halo, 1 - halo:nj + halo) !< m, before the step
    real(dp), intent(in) :: surface(ni, nj)                             !< tracer m/s, into the sea
    real(dp), intent(in) :: diffusivity                                 !< m2/s, horizontal
    real(dp), intent(in) :: dt                                          !< s
    real(dp), intent(out) :: content(ni, nj, nk)
    real(dp) :: slope(ni, nj), slope_above(ni, nj), through(ni, nj), divergence(ni, nj)
    real(dp) :: thickness
    integer :: i, j, k

    slope_above = 0.0_dp
    do k = 1, nk
      call lateral(geo, ni, nj, tracer(:, :, k), geo%umask(:, :, k), geo%vmask(:, :, k), &
                   flux%east(:, :, k), flux%east_share(:, :, k), &
                   flux%north(:, :, k), flux%north_share(:, :, k), &
                   dt * diffusivity * geo%e3t(k), divergence)
      call vertical_slope(geo, ni, nj, nk, k, tracer, slope)
      if (k > 1) call vertical(geo, ni, nj, nk, k, tracer, slope_above, slope, w(:, :, k), dt, through)
      do j = 1, nj
        do i = 1, ni
          thickness = geo%e3t(k)
          if (k == 1) thickness = thickness + ssh(i, j)
          content(i, j, k) = thickness * tracer(i, j, k) - divergence(i, j) * geo%rarea(i, j)
        end do
      end do
      if (k > 1) then
        content(:, :, k) = content(:, :, k) - through
        content(:, :, k - 1) = content(:, :, k - 1) + through
      end if
      slope_above = slope
    end do
    content(:, :, 1) = content(:, :, 1) + dt * surface
  end subroutine tracers_advect

  !> Divergence of the lateral fluxes of one level during a step [tracer m3].
  pure subroutine lateral(geo, ni, nj, t, umask, vmask, volume_east, east_share, &
                          volume_north, north_share, conduct, divergence)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo) :: t, umask, vmask
    real(dp), intent(in), dimension(0:ni, nj) :: volume_east, east_share
    real(dp), intent(in), dimension(ni, 0:nj) :: volume_north, north_share
    real(dp), intent(in) :: conduct          !< m3, dt A e3t
    real(dp), intent(out) :: divergence(ni, nj)
    real(dp) :: step(-1:ni + 1), slope(0:ni + 1), east(0:ni), north(ni), north_before(ni)
    real(dp) :: step_south(ni), step_north(ni), slope_south(ni), slope_north(ni)
    integer :: i, j

    do j = 1, nj
      do i = -1, ni + 1
        step(i) = (t(i + 1, j) - t(i, j)) * umask(i, j)
      end do
      do i = 0, ni + 1
        slope(i) = limited(step(i - 1), step(i), 0.5_dp * (step(i - 1) + step(i)))
      end do
      do i = 0, ni
        east(i) = max(volume_east(i, j), 0.0_dp) * (t(i, j) + east_share(i, j) * slope(i)) &
                  + min(volume_east(i, j), 0.0_dp) * (t(i + 1, j) - east_share(i, j) * slope(i + 1)) &
                  - conduct * geo%e2u(i, j) * geo%re1u(i, j) * step(i)
      end do
      do i = 1, ni
        divergence(i, j) = east(i) - east(i - 1)
      end do
    end do

    do i = 1, ni
      step_south(i) = (t(i, 0) - t(i, -1)) * vmask(i, -1)
      step_north(i) = (t(i, 1) - t(i, 0)) * vmask(i, 0)
      slope_south(i) = limited(step_south(i), step_north(i), 0.5_dp * (step_south(i) + step_north(i)))
    end do
    do j = 0, nj
      do i = 1, ni
        step_south(i) = step_north(i)
        step_north(i) = (t(i, j + 2) - t(i, j + 1)) * vmask(i, j + 1)
        slope_north(i) = limited(step_south(i), step_north(i), &
                                 0.5_dp * (step_south(i) + step_north(i)))
        north(i) = max(volume_north(i, j), 0.0_dp) * (t(i, j) + north_share(i, j) * slope_south(i)) &
                   + min(volume_north(i, j), 0.0_dp) &
                   * (t(i, j + 1) - north_share(i, j) * slope_north(i)) &
                   - conduct * geo%e1v(i, j) * geo%re2v(i, j) * step_south(i)
        slope_south(i) = slope_north(i)
      end do
      if (j > 0) divergence(:, j) = divergence(:, j) + (north - north_before)
      north_before = north
    end do
  end subroutine lateral

  !> Limited change of the tracer across level k, positive if it rises towards the surface.
  pure subroutine vertical_slope(geo, ni, nj, nk, k, t, slope)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    integer, intent(in) :: k
    real(dp), intent(in) :: t(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    real(dp), intent(out) :: slope(ni, nj)
    real(dp) :: centre
    integer :: i, j

    if (k == 1 .or. k == nk) then
      slope = 0.0_dp
      return
    end if
    centre = geo%e3t(k) / (geo%e3w(k) + geo%e3w(k + 1))
    do j = 1, nj
      do i = 1, ni
        slope(i, j) = geo%tmask(i, j, k + 1) * limited(t(i, j, k) - t(i, j, k + 1), &
                      t(i, j, k - 1) - t(i, j, k), centre * (t(i, j, k - 1) - t(i, j, k + 1)))
      end do
    end do
  end subroutine vertical_slope

  !> Upward flux per area through the upper face of level k > 1 during a step [tracer m].
  pure subroutine vertical(geo, ni, nj, nk, k, t, slope_above, slope, w, dt, through)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    integer, intent(in) :: k
    real(dp), intent(in) :: t(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    real(dp), intent(in) :: slope_above(ni, nj)
    real(dp), intent(in) :: slope(ni, nj)
    real(dp), intent(in) :: w(ni, nj)          !< m3/s
    real(dp), intent(in) :: dt
    real(dp), intent(out) :: through(ni, nj)
    real(dp) :: rise, courant, courant_above
    integer :: i, j

    courant = 0.5_dp / geo%e3t(k)
    courant_above = 0.5_dp / geo%e3t(k - 1)
    do j = 1, nj
      do i = 1, ni
        rise = dt * w(i, j) * geo%rarea(i, j)
        through(i, j) = max(rise, 0.0_dp) * (t(i, j, k) &
                        + (0.5_dp - courant * abs(rise)) * slope(i, j)) &
                        + min(rise, 0.0_dp) * (t(i, j, k - 1) &
                        - (0.5_dp - courant_above * abs(rise)) * slope_above(i, j))
      end do
    end do
  end subroutine vertical

  !> New tracer from its content: implicit vertical diffusion over the new thicknesses.
  subroutine tracers_mix(mixing, ni, nj, nk, ssh_new, content, tracer)
    type(mixing_t), intent(in) :: mixing
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in) :: ssh_new(1 - halo:ni + halo, 1 - halo:nj + halo) !< m
    real(dp), intent(inout) :: content(ni, nj, nk)                          !< tracer m
    real(dp), intent(inout) :: tracer(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    real(dp) :: pivot
    integer :: i, j, k

    do k = nk - 1, 1, -1
      do j = 1, nj
        do i = 1, ni
          content(i, j, k) = content(i, j, k) + mixing%conduct(k + 1) &
                             * mixing%inverse(i, j, k + 1) * content(i, j, k + 1)
        end do
      end do
    end do
    do j = 1, nj
      do i = 1, ni
        ! inverse(1) was made for the thickness at rest: add the sea level to its reciprocal.
        pivot = mixing%inverse(i, j, 1) / (1.0_dp + mixing%inverse(i, j, 1) * ssh_new(i, j))
        tracer(i, j, 1) = pivot * content(i, j, 1)
      end do
    end do
    do k = 2, nk
      do j = 1, nj
        do i = 1, ni
          tracer(i, j, k) = mixing%inverse(i, j, k) &
                            * (content(i, j, k) + mixing%conduct(k) * tracer(i, j, k - 1))
        end do
      end do
    end do
  end subroutine tracers_mix
end module basin_tracers
