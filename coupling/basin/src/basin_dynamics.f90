!> Frictional-geostrophic momentum and the implicit free surface.
!>
!>   r u - f v = -g d(eta)/dx - dp/dx + tau / (rho0 e3t_1)       A_u: all but the surface slope
!>   r v + f u = -g d(eta)/dy - dp/dy                            A_v
!>   d(eta)/dt + div sum_k e3t_k (u, v)_k = 0,  eta in (u, v) at the end of the step
!>
!> Velocity follows from the state at every step. On the C-grid
!>
!>   u = mask [ r/(r2+f2) A_u + sum over 4 V points w A_v / (e1u e2u) ]
!>   v = mask [ r/(r2+f2) A_v - sum over 4 U points w A_u / (e1v e2v) ]
!>
!> with w shared by the pair (see basin_geometry), so the pressure force never does negative work
!> through rotation and the matrix of the free surface has a positive definite symmetric part.
!> References: Edwards and Shepherd, 2002 (GOLDSTEIN); Killworth, 2003.
module basin_dynamics
  use basin_banded, only: banded_add, banded_create, banded_factor, banded_t
  use basin_constants, only: dp, gravity, halo, rho0
  use basin_eos, only: eos_density
  use basin_geometry, only: geometry_t
  use basin_grid, only: grid_mask, grid_t
  use basin_settings, only: settings_t
  implicit none
  private
  public :: dynamics_forces, dynamics_transport, dynamics_velocity, dynamics_continuity
  public :: surface_t, surface_create

  !> The elliptic problem of the free surface: one unknown per wet column.
  type surface_t
    type(banded_t) :: matrix
    integer, allocatable :: unknown(:, :)  !< number of the column in the system, 0 on land
  end type surface_t

contains

  !> Specific forces A_u and A_v [m/s2] without the surface slope: pressure gradient and wind.
  subroutine dynamics_forces(geo, ni, nj, nk, t, s, taux, force_u, force_v)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: t, s
    real(dp), intent(in) :: taux(1 - halo:ni + halo, 1 - halo:nj + halo) !< N/m2
    real(dp), intent(inout), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: &
      force_u, force_v
    real(dp), dimension(0:ni + 1, 0:nj + 1) :: pressure, upper
    real(dp) :: density, half
    integer :: i, j, k

    pressure = 0.0_dp
    upper = 0.0_dp
    do k = 1, nk
      half = 0.5_dp * gravity / rho0 * geo%e3w(k)
      do j = 0, nj + 1
        do i = 0, ni + 1
          density = eos_density(t(i, j, k), s(i, j, k), geo%gdept(k))
          if (k == 1) upper(i, j) = density
          pressure(i, j) = pressure(i, j) + half * (upper(i, j) + density)
          upper(i, j) = density
        end do
      end do
      if (k == 1) pressure = 0.5_dp * pressure   ! e3w(1) is twice the depth of the first T point
      do j = 0, nj + 1
        do i = 0, ni
          force_u(i, j, k) = geo%umask(i, j, k) * geo%re1u(i, j) &
                             * (pressure(i, j) - pressure(i + 1, j))
        end do
      end do
      do j = 0, nj
        do i = 0, ni + 1
          force_v(i, j, k) = geo%vmask(i, j, k) * geo%re2v(i, j) &
                             * (pressure(i, j) - pressure(i, j + 1))
        end do
      end do
    end do
    do j = 0, nj + 1
      do i = 0, ni
        force_u(i, j, 1) = force_u(i, j, 1) &
                           + geo%umask(i, j, 1) * taux(i, j) / (rho0 * geo%e3t(1))
      end do
    end do
  end subroutine dynamics_forces

  !> Velocity of one level [m/s] from forces that are zero on land faces.
  pure subroutine balance(geo, ni, nj, force_u, force_v, umask, vmask, u, v)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo) :: force_u, force_v
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo) :: umask, vmask
    real(dp), intent(inout), dimension(1 - halo:ni + halo, 1 - halo:nj + halo) :: u, v
    integer :: i, j

    do j = 1, nj
      do i = 0, ni
        u(i, j) = umask(i, j) * (geo%drag_u(i, j) * force_u(i, j) + geo%rarea_u(i, j) &
                  * (geo%turn(i, j) * (force_v(i, j) + force_v(i + 1, j)) &
                     + geo%turn(i, j - 1) * (force_v(i, j - 1) + force_v(i + 1, j - 1))))
      end do
    end do
    do j = 0, nj
      do i = 1, ni
        v(i, j) = vmask(i, j) * (geo%drag_v(i, j) * force_v(i, j) - geo%rarea_v(i, j) &
                  * (geo%turn(i, j) * (force_u(i, j) + force_u(i, j + 1)) &
                     + geo%turn(i - 1, j) * (force_u(i - 1, j) + force_u(i - 1, j + 1))))
      end do
    end do
  end subroutine balance

  !> Right-hand side of the free surface on owned cells [m3/s]:
  !> area eta / dt - div of the transport that the forces alone would drive.
  subroutine dynamics_transport(geo, ni, nj, nk, force_u, force_v, ssh, dt, u, v, rhs)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: force_u, force_v
    real(dp), intent(in) :: ssh(1 - halo:ni + halo, 1 - halo:nj + halo)  !< m
    real(dp), intent(in) :: dt                                           !< s
    real(dp), intent(inout), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: u, v !< work
    real(dp), intent(out) :: rhs(ni, nj)
    real(dp) :: across(0:ni, nj), along(ni, 0:nj)   ! depth integrals, m2/s
    integer :: k

    across = 0.0_dp
    along = 0.0_dp
    do k = 1, nk
      call balance(geo, ni, nj, force_u(:, :, k), force_v(:, :, k), geo%umask(:, :, k), &
                   geo%vmask(:, :, k), u(:, :, k), v(:, :, k))
      across = across + geo%e3t(k) * u(0:ni, 1:nj, k)
      along = along + geo%e3t(k) * v(1:ni, 0:nj, k)
    end do
    across = across * geo%e2u(0:ni, 1:nj)
    along = along * geo%e1v(1:ni, 0:nj)
    rhs = geo%area(1:ni, 1:nj) * ssh(1:ni, 1:nj) / dt &
          - (across(1:ni, :) - across(0:ni - 1, :) + along(:, 1:nj) - along(:, 0:nj - 1))
  end subroutine dynamics_transport

  !> Velocity [m/s] of the forces and the slope of the new surface height.
  subroutine dynamics_velocity(geo, ni, nj, nk, force_u, force_v, height, u, v)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(inout), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: &
      force_u, force_v
    real(dp), intent(in) :: height(1 - halo:ni + halo, 1 - halo:nj + halo) !< m, with halo
    real(dp), intent(inout), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: u, v
    real(dp), dimension(1 - halo:ni + halo, 1 - halo:nj + halo) :: slope_u, slope_v
    integer :: i, j, k

    do j = 0, nj + 1
      do i = 0, ni + 1
        slope_u(i, j) = gravity * geo%re1u(i, j) * (height(i, j) - height(i + 1, j))
        slope_v(i, j) = gravity * geo%re2v(i, j) * (height(i, j) - height(i, j + 1))
      end do
    end do
    do k = 1, nk
      do j = 0, nj + 1
        do i = 0, ni + 1
          force_u(i, j, k) = force_u(i, j, k) + geo%umask(i, j, k) * slope_u(i, j)
          force_v(i, j, k) = force_v(i, j, k) + geo%vmask(i, j, k) * slope_v(i, j)
        end do
      end do
      call balance(geo, ni, nj, force_u(:, :, k), force_v(:, :, k), geo%umask(:, :, k), &
                   geo%vmask(:, :, k), u(:, :, k), v(:, :, k))
    end do
  end subroutine dynamics_velocity

  !> Upward volume flux [m3/s] through the upper face of each level, and the new sea level.
  !>
  !> The flux through the surface moves it: eta_new = eta + dt w_1 / area. So volume closes to
  !> round-off whatever the residual of the linear solve.
  subroutine dynamics_continuity(geo, ni, nj, nk, u, v, dt, ssh, w, ssh_new)
    type(geometry_t), intent(in) :: geo
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(in), dimension(1 - halo:ni + halo, 1 - halo:nj + halo, nk) :: u, v
    real(dp), intent(in) :: dt
    real(dp), intent(in) :: ssh(1 - halo:ni + halo, 1 - halo:nj + halo)        !< m
    real(dp), intent(out) :: w(ni, nj, nk + 1)
    real(dp), intent(inout) :: ssh_new(1 - halo:ni + halo, 1 - halo:nj + halo) !< m
    integer :: i, j, k

    w(:, :, nk + 1) = 0.0_dp
    do k = nk, 1, -1
      do j = 1, nj
        do i = 1, ni
          w(i, j, k) = w(i, j, k + 1) - geo%e3t(k) &
                       * (geo%e2u(i, j) * u(i, j, k) - geo%e2u(i - 1, j) * u(i - 1, j, k) &
                          + geo%e1v(i, j) * v(i, j, k) - geo%e1v(i, j - 1) * v(i, j - 1, k))
        end do
      end do
    end do
    ssh_new(1:ni, 1:nj) = ssh(1:ni, 1:nj) + dt * w(:, :, 1) * geo%rarea(1:ni, 1:nj)
  end subroutine dynamics_continuity

  !> Build and factor the matrix of the free surface; every rank holds all of it.
  !>
  !> Row of a column: area eta / dt + div H K grad eta, K the response of velocity to the slope.
  subroutine surface_create(surface, grid, settings)
    type(surface_t), intent(out) :: surface
    type(grid_t), intent(in) :: grid
    type(settings_t), intent(in) :: settings
    integer :: i, j, n

    allocate(surface%unknown(grid%nx, grid%ny), source=0)
    n = 0
    do j = 1, grid%ny
      do i = 1, grid%nx
        if (grid%mbathy(i, j) == 0) cycle
        n = n + 1
        surface%unknown(i, j) = n
      end do
    end do
    call banded_create(surface%matrix, n, half_width(grid, surface%unknown))
    do j = 1, grid%ny
      do i = 1, grid%nx
        n = surface%unknown(i, j)
        if (n > 0) call banded_add(surface%matrix, n, n, &
                                   grid%e1t(i, j) * grid%e2t(i, j) / settings%rn_dt)
      end do
    end do
    call add_faces(surface, grid, settings%rn_friction)
    call banded_factor(surface%matrix)
  end subroutine surface_create

  !> Largest distance in the numbering between columns that touch, corners included.
  integer function half_width(grid, unknown)
    type(grid_t), intent(in) :: grid
    integer, intent(in) :: unknown(:, :)
    integer :: i, j, ii, jj, east

    half_width = 1
    do j = 1, grid%ny
      do i = 1, grid%nx
        if (unknown(i, j) == 0) cycle
        do jj = max(1, j - 1), min(grid%ny, j + 1)
          do east = -1, 1
            ii = neighbour(grid, i, east)
            if (ii < 1 .or. ii > grid%nx) cycle
            if (unknown(ii, jj) > 0) &
              half_width = max(half_width, abs(unknown(ii, jj) - unknown(i, j)))
          end do
        end do
      end do
    end do
  end function half_width

  !> Column index some steps to the east, around the globe if the basin is cyclic.
  pure integer function neighbour(grid, i, east)
    type(grid_t), intent(in) :: grid
    integer, intent(in) :: i
    integer, intent(in) :: east
    neighbour = i + east
    if (grid%cyclic) neighbour = modulo(neighbour - 1, grid%nx) + 1
  end function neighbour

  !> Add the flux through every face: its own slope through friction, and the slope of the faces
  !> it shares a corner with through rotation.
  subroutine add_faces(surface, grid, r)
    type(surface_t), intent(inout) :: surface
    type(grid_t), intent(in) :: grid
    real(dp), intent(in) :: r       !< 1/s
    integer, allocatable :: umask(:, :, :), vmask(:, :, :)
    integer :: i, j, corner, side, ii
    real(dp) :: turn, height

    umask = grid_mask(grid, 'u')
    vmask = grid_mask(grid, 'v')
    do j = 1, grid%ny - 1
      do i = 1, grid%nx
        height = depth_of(umask(i, j, :), umask(i, j, :))
        call add_flux(i, j, 1, 0, i, j, 1, 0, height * grid%e2u(i, j) / grid%e1u(i, j) &
                      * r / (r**2 + grid%ff_t(i, j)**2))
        height = depth_of(vmask(i, j, :), vmask(i, j, :))
        call add_flux(i, j, 0, 1, i, j, 0, 1, height * grid%e1v(i, j) / grid%e2v(i, j) &
                      * r / (r**2 + grid%ff_f(i, j)**2))
        ! The corner F(i, j) lies between U(i, j), U(i, j + 1) and V(i, j), V(i + 1, j).
        turn = 0.25_dp * grid%e1f(i, j) * grid%e2f(i, j) * grid%ff_f(i, j) &
               / (r**2 + grid%ff_f(i, j)**2)
        do side = 0, 1
          ii = neighbour(grid, i, side)
          if (ii > grid%nx) cycle
          do corner = 0, 1
            height = depth_of(umask(i, j + corner, :), vmask(ii, j, :))
            if (height <= 0.0_dp) cycle
            call add_flux(i, j + corner, 1, 0, ii, j, 0, 1, height * turn &
                          / (grid%e1u(i, j + corner) * grid%e2v(ii, j)))
            call add_flux(ii, j, 0, 1, i, j + corner, 1, 0, -height * turn &
                          / (grid%e2v(ii, j) * grid%e1u(i, j + corner)))
          end do
        end do
      end do
    end do

  contains

    !> Thickness of the levels where both faces are wet [m].
    pure real(dp) function depth_of(one, other)
      integer, intent(in) :: one(:)
      integer, intent(in) :: other(:)
      depth_of = sum(grid%e3t, mask=one * other == 1)
    end function depth_of

    !> Flux from cell (i1, j1) to its neighbour (di1, dj1) driven by the height difference between
    !> cell (i2, j2) and its neighbour (di2, dj2), times a conductance [m s].
    subroutine add_flux(i1, j1, di1, dj1, i2, j2, di2, dj2, conductance)
      integer, intent(in) :: i1, j1, di1, dj1, i2, j2, di2, dj2
      real(dp), intent(in) :: conductance
      integer :: here, there, high, low
      if (conductance == 0.0_dp) return
      associate (number => surface%unknown)
        here = number(i1, j1)
        there = number(neighbour(grid, i1, di1), j1 + dj1)
        high = number(i2, j2)
        low = number(neighbour(grid, i2, di2), j2 + dj2)
      end associate
      call banded_add(surface%matrix, here, high, gravity * conductance)
      call banded_add(surface%matrix, here, low, -gravity * conductance)
      call banded_add(surface%matrix, there, high, -gravity * conductance)
      call banded_add(surface%matrix, there, low, gravity * conductance)
    end subroutine add_flux
  end subroutine add_faces
end module basin_dynamics
