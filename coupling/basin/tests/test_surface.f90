!> The matrix of the free surface belongs to the velocities that the model computes, on a
!> land-broken grid, closed and cyclic.
program test_surface
  use mpi_f08
  use basin_banded, only: banded_solve
  use basin_constants, only: dp, halo
  use basin_decomposition, only: decomposition_create, decomposition_localise, decomposition_t
  use basin_dynamics, only: dynamics_continuity, dynamics_transport, dynamics_velocity, &
    surface_create, surface_t
  use basin_error, only: error_t
  use basin_geometry, only: geometry_create, geometry_t
  use basin_grid, only: grid_create, grid_t
  use basin_random, only: random_normal
  use basin_settings, only: settings_t
  use test_support, only: expect, report
  implicit none

  call MPI_Init()
  call check(.false., 'closed')
  call check(.true., 'cyclic')
  call MPI_Finalize()
  call report()

contains

  subroutine check(cyclic, name)
    logical, intent(in) :: cyclic
    character(len=*), intent(in) :: name
    type(settings_t) :: settings
    type(grid_t) :: grid
    type(decomposition_t) :: parts
    type(geometry_t) :: geo
    type(surface_t) :: surface
    type(error_t) :: error
    real(dp), allocatable, dimension(:, :, :) :: force_u, force_v, u, v, w
    real(dp), allocatable, dimension(:, :) :: ssh, height, ssh_new, rhs, global
    real(dp), allocatable :: x(:)
    real(dp) :: work
    integer :: i, j, k

    settings%nn_nx = 17
    settings%nn_ny = 23
    settings%nn_nz = 6
    settings%ln_cyclic = cyclic
    call grid_create(grid, settings)
    call decomposition_create(parts, MPI_COMM_SELF, 17, 23, 6, 0, 0, cyclic, error)
    call geometry_create(geo, grid, parts, settings)
    call surface_create(surface, grid, settings)
    allocate(force_u(1 - halo:17 + halo, 1 - halo:23 + halo, 5), source=0.0_dp)
    allocate(force_v, u, v, source=force_u)
    allocate(ssh(1 - halo:17 + halo, 1 - halo:23 + halo), source=0.0_dp)
    allocate(height, ssh_new, source=ssh)
    allocate(w(17, 23, 6), rhs(17, 23))
    allocate(global(17, 23), source=0.0_dp)
    do k = 1, 5
      do j = 1, 23
        global(:, j) = 1.0e-5_dp * random_normal(k, j, [(i, i = 1, 17)])
      end do
      call decomposition_localise(parts, global, .false., force_u(:, :, k))
      call decomposition_localise(parts, cshift(global, 3, 2), .false., force_v(:, :, k))
      force_u(:, :, k) = force_u(:, :, k) * geo%umask(:, :, k)
      force_v(:, :, k) = force_v(:, :, k) * geo%vmask(:, :, k)
    end do
    call dynamics_transport(geo, 17, 23, 5, force_u, force_v, ssh, settings%rn_dt, u, v, rhs)
    work = 0.0_dp
    do k = 1, 5
      work = work + geo%e3t(k) * (sum(u(1:17, 1:23, k) * force_u(1:17, 1:23, k) &
                                      / geo%rarea_u(1:17, 1:23)) &
                                  + sum(v(1:17, 1:23, k) * force_v(1:17, 1:23, k) &
                                        / geo%rarea_v(1:17, 1:23)) &
                                  - sum(geo%drag_u(1:17, 1:23) * force_u(1:17, 1:23, k)**2 &
                                        / geo%rarea_u(1:17, 1:23)) &
                                  - sum(geo%drag_v(1:17, 1:23) * force_v(1:17, 1:23, k)**2 &
                                        / geo%rarea_v(1:17, 1:23)))
    end do
    ! Relative to the work of friction, a sum of some thousand terms.
    call expect(abs(work) < 1.0e-11_dp * sum(geo%e3t) * sum(geo%drag_u * force_u(:, :, 1)**2 &
                / geo%rarea_u), 'rotation does no work, '//name)
    x = pack(rhs, surface%unknown > 0)
    call banded_solve(surface%matrix, x)
    global = unpack(x, surface%unknown > 0, 0.0_dp)
    call decomposition_localise(parts, global, .false., height)
    call dynamics_velocity(geo, 17, 23, 5, force_u, force_v, height, u, v)
    call dynamics_continuity(geo, 17, 23, 5, u, v, settings%rn_dt, ssh, w, ssh_new)
    ! Transports of 1e7 m3/s nearly cancel over cells of 1e10 m2: their rounding, 1e-16 of them,
    ! times rn_dt / area leaves about 1e-12 m.
    call expect(maxval(abs(ssh_new(1:17, 1:23) - height(1:17, 1:23))) < 1.0e-11_dp, &
                'sea level from continuity is the solution of the system, '//name)
    call expect(maxval(abs(height)) > 1.0e-2_dp, 'the sea level responds, '//name)
    call expect(abs(sum(geo%area(1:17, 1:23) * ssh_new(1:17, 1:23))) &
                < 1.0e-13_dp * sum(geo%area(1:17, 1:23)), 'volume is conserved, '//name)
  end subroutine check
end program test_surface
