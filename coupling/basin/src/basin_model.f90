!> The model: its state, its parts, and one time step.
module basin_model
  use, intrinsic :: ieee_arithmetic, only: ieee_is_finite
  use mpi_f08
  use basin_banded, only: banded_solve
  use basin_constants, only: dp, halo, rcp, rho0
  use basin_convection, only: convection_adjust
  use basin_decomposition, only: decomposition_create, decomposition_exchange, decomposition_free, &
    decomposition_gather, decomposition_gather_all, decomposition_localise, decomposition_t
  use basin_dynamics, only: dynamics_continuity, dynamics_forces, dynamics_transport, &
    dynamics_velocity, surface_create, surface_t
  use basin_error, only: error_agree, error_raise, error_t, number_text
  use basin_forcing, only: forcing_amplitudes, forcing_at, forcing_create, forcing_fluxes, forcing_t
  use basin_functions, only: scalar_exp
  use basin_geometry, only: geometry_create, geometry_t
  use basin_grid, only: grid_create, grid_t
  use basin_settings, only: settings_t
  use basin_tracers, only: mixing_create, mixing_t, tracers_advect, tracers_mix, tracers_prepare, &
    volume_flux_create, volume_flux_t
  implicit none
  private
  public :: model_t, model_create, model_step, model_rest, model_collect, model_check, model_free
  public :: snapshot_t, snapshot_create

  !> The whole grid's fields on rank 0, shape (nx, ny, nz), land zero; empty on other ranks.
  type snapshot_t
    real(dp), allocatable, dimension(:, :, :) :: tn, sn, un, vn !< degC, g/kg, m/s, m/s
    real(dp), allocatable, dimension(:, :, :) :: sshn           !< m, one level
    real(dp), allocatable, dimension(:, :, :) :: gain           !< heat [J/m2] and salt [g/kg m]
  end type snapshot_t

  !> Fields are owned cells and halo, levels 1 to nz - 1; the halo of ts is filled within the step.
  type model_t
    type(settings_t) :: settings
    type(grid_t) :: grid
    type(decomposition_t) :: decomposition
    type(geometry_t) :: geo
    type(forcing_t) :: forcing
    type(surface_t) :: surface
    type(mixing_t) :: mixing
    integer :: kt = 0                                        !< steps since the start of year 1
    type(error_t) :: stop                                    !< why the run is to end, if Halocline asks
    real(dp), allocatable :: ts(:, :, :, :)                  !< temperature [degC], salinity [g/kg]
    real(dp), allocatable, dimension(:, :, :) :: un, vn      !< m/s, of the last step
    real(dp), allocatable, dimension(:, :) :: sshn           !< m
    real(dp), allocatable :: gain(:, :, :)                   !< surface input since the last row
    ! Work arrays of the step, allocated once.
    type(volume_flux_t), private :: flux
    real(dp), allocatable, dimension(:, :, :), private :: force_u, force_v, w, content
    real(dp), allocatable, dimension(:, :), private :: rhs, height, ssh_new, global
    real(dp), allocatable, private :: unknowns(:)
  end type model_t

contains

  !> Build the model on a communicator; fields are zero. Collective.
  subroutine model_create(model, settings, comm, error)
    type(model_t), intent(out) :: model
    type(settings_t), intent(in) :: settings
    type(MPI_Comm), intent(in) :: comm
    type(error_t), intent(inout) :: error

    model%settings = settings
    call grid_create(model%grid, settings)
    associate (grid => model%grid)
      call decomposition_create(model%decomposition, comm, grid%nx, grid%ny, 2 * grid%nz, &
                                settings%nn_ranks_i, settings%nn_ranks_j, grid%cyclic, error)
      if (error%raised) return
      call geometry_create(model%geo, grid, model%decomposition, settings)
      call forcing_create(model%forcing, grid, model%decomposition, settings)
      call surface_create(model%surface, grid, settings)
    end associate
    call mixing_create(model%mixing, model%geo, settings)
    call volume_flux_create(model%flux, model%geo)
    call allocate_fields(model)
  end subroutine model_create

  subroutine allocate_fields(model)
    type(model_t), intent(inout) :: model
    associate (ni => model%geo%ni, nj => model%geo%nj, nk => model%geo%nk)
      allocate(model%ts(1 - halo:ni + halo, 1 - halo:nj + halo, nk, 2), source=0.0_dp)
      allocate(model%un(1 - halo:ni + halo, 1 - halo:nj + halo, nk), source=0.0_dp)
      allocate(model%vn, model%force_u, model%force_v, source=model%un)
      allocate(model%sshn(1 - halo:ni + halo, 1 - halo:nj + halo), source=0.0_dp)
      allocate(model%height, model%ssh_new, source=model%sshn)
      allocate(model%gain(1 - halo:ni + halo, 1 - halo:nj + halo, 2), source=0.0_dp)
      allocate(model%content(ni, nj, nk), source=0.0_dp)
      allocate(model%w(ni, nj, nk + 1), source=0.0_dp)
      allocate(model%rhs(ni, nj), source=0.0_dp)
    end associate
    allocate(model%global(model%grid%nx, model%grid%ny), source=0.0_dp)
    allocate(model%unknowns(model%surface%matrix%n), source=0.0_dp)
  end subroutine allocate_fields

  !> Give back what the model holds of MPI. Collective.
  subroutine model_free(model)
    type(model_t), intent(inout) :: model
    call decomposition_free(model%decomposition)
  end subroutine model_free

  !> A sea at rest: horizontally uniform temperature and salinity, flat surface.
  subroutine model_rest(model)
    type(model_t), intent(inout) :: model
    real(dp) :: profile
    integer :: k

    associate (set => model%settings, mask => model%geo%tmask)
      do k = 1, model%geo%nk
        profile = set%rn_t_deep &
                  + (set%rn_t_top - set%rn_t_deep) * scalar_exp(-model%geo%gdept(k) / set%rn_t_scale)
        model%ts(:, :, k, 1) = profile * mask(:, :, k)
        model%ts(:, :, k, 2) = set%rn_salinity * mask(:, :, k)
      end do
    end associate
    model%un = 0.0_dp
    model%vn = 0.0_dp
    model%sshn = 0.0_dp
  end subroutine model_rest

  !> Advance the model by one time step. Collective.
  !>
  !> The sea level is known to every rank from the solve; if it leaves [-20, 20] m or is not a
  !> number, all ranks raise the same error.
  subroutine model_step(model, error)
    type(model_t), intent(inout) :: model
    type(error_t), intent(inout) :: error
    integer :: ni, nj, nk

    ni = model%geo%ni
    nj = model%geo%nj
    nk = model%geo%nk
    associate (geo => model%geo, forcing => model%forcing, dt => model%settings%rn_dt)
      model%kt = model%kt + 1
      call forcing_amplitudes(forcing, model%settings, model%kt)
      call forcing_at(forcing, model%settings, model%kt)
      call forcing_fluxes(forcing, model%settings, model%ts(:, :, 1, 1), model%ts(:, :, 1, 2), &
                          geo%tmask(:, :, 1))
      call decomposition_exchange(model%decomposition, 2 * nk, model%ts)
      call dynamics_forces(geo, ni, nj, nk, model%ts(:, :, :, 1), model%ts(:, :, :, 2), &
                           forcing%taux, model%force_u, model%force_v)
      call dynamics_transport(geo, ni, nj, nk, model%force_u, model%force_v, model%sshn, dt, &
                              model%un, model%vn, model%rhs)
      call solve_height(model, error)
      if (error%raised) return
      call dynamics_velocity(geo, ni, nj, nk, model%force_u, model%force_v, model%height, &
                             model%un, model%vn)
      call dynamics_continuity(geo, ni, nj, nk, model%un, model%vn, dt, model%sshn, model%w, &
                               model%ssh_new)
      call tracers_prepare(geo, ni, nj, nk, model%un, model%vn, dt, model%flux)
      call step_tracer(model, 1, forcing%heat / (rho0 * rcp))
      call step_tracer(model, 2, forcing%salt)
      model%sshn = model%ssh_new
      if (model%settings%ln_convection) &
        call convection_adjust(ni, nj, nk, model%ts(:, :, :, 1), model%ts(:, :, :, 2), &
                               model%sshn, geo%tmask, geo%levels, geo%e3t, geo%gdepw)
      model%gain(:, :, 1) = model%gain(:, :, 1) + dt * forcing%heat
      model%gain(:, :, 2) = model%gain(:, :, 2) + dt * forcing%salt
    end associate
  end subroutine model_step

  !> Advect and mix tracer n with a surface flux [tracer m/s].
  subroutine step_tracer(model, n, surface)
    type(model_t), intent(inout) :: model
    integer, intent(in) :: n
    real(dp), intent(in) :: surface(1 - halo:, 1 - halo:)
    associate (geo => model%geo, ni => model%geo%ni, nj => model%geo%nj, nk => model%geo%nk)
      call tracers_advect(geo, ni, nj, nk, model%ts(:, :, :, n), model%flux, model%w, model%sshn, &
                          surface(1:ni, 1:nj), model%settings%rn_aht, model%settings%rn_dt, &
                          model%content)
      call tracers_mix(model%mixing, ni, nj, nk, model%ssh_new, model%content, &
                       model%ts(:, :, :, n))
    end associate
  end subroutine step_tracer

  !> Sea level at the end of the step, on every rank the same bits. Collective.
  subroutine solve_height(model, error)
    type(model_t), intent(inout) :: model
    type(error_t), intent(inout) :: error
    integer :: i, j, n

    call decomposition_gather_all(model%decomposition, model%rhs, model%global)
    associate (number => model%surface%unknown, x => model%unknowns, grid => model%grid)
      do j = 1, grid%ny
        do i = 1, grid%nx
          n = number(i, j)
          if (n > 0) x(n) = model%global(i, j)
        end do
      end do
      call banded_solve(model%surface%matrix, x)
      if (.not. all(abs(x) <= 20.0_dp)) call raise_blow_up(model, 'sea level within 20 m', error)
      do j = 1, grid%ny
        do i = 1, grid%nx
          n = number(i, j)
          if (n > 0) model%global(i, j) = x(n)
        end do
      end do
    end associate
    call decomposition_localise(model%decomposition, model%global, .false., model%height)
  end subroutine solve_height

  !> Check that velocity and temperature are numbers of an ocean. Collective.
  subroutine model_check(model, error)
    type(model_t), intent(in) :: model
    type(error_t), intent(inout) :: error

    associate (ni => model%geo%ni, nj => model%geo%nj, t => model%ts(:, :, :, 1))
      if (.not. all(abs(model%un(1:ni, 1:nj, :)) <= 10.0_dp) .or. &
          .not. all(abs(model%vn(1:ni, 1:nj, :)) <= 10.0_dp)) &
        call raise_blow_up(model, 'velocity within 10 m/s', error)
      if (.not. all(abs(model%ts(1:ni, 1:nj, :, 1) - 20.0_dp) <= 25.0_dp)) &
        call raise_blow_up(model, 'temperature within -5 and 45 degC', error)
      if (.not. all(ieee_is_finite(model%ts(1:ni, 1:nj, :, 2)))) &
        call raise_blow_up(model, 'finite salinity', error)
    end associate
    call error_agree(error, model%decomposition%comm)
  end subroutine model_check

  subroutine raise_blow_up(model, expected, error)
    type(model_t), intent(in) :: model
    character(len=*), intent(in) :: expected
    type(error_t), intent(inout) :: error
    call error_raise(error, 'The ocean blew up at step '//number_text(model%kt)//': '//expected// &
                     ' was expected but not found; shorten rn_dt or check the start and forcing.')
  end subroutine raise_blow_up

  !> Make room for the fields of the whole grid on rank 0.
  subroutine snapshot_create(snapshot, model)
    type(snapshot_t), intent(out) :: snapshot
    type(model_t), intent(in) :: model
    integer :: nx, ny, nz

    nx = merge(model%grid%nx, 0, model%decomposition%rank == 0)
    ny = model%grid%ny
    nz = model%grid%nz
    allocate(snapshot%tn(nx, ny, nz), source=0.0_dp)
    allocate(snapshot%sn, snapshot%un, snapshot%vn, source=snapshot%tn)
    allocate(snapshot%sshn(nx, ny, 1), source=0.0_dp)
    allocate(snapshot%gain(nx, ny, 2), source=0.0_dp)
  end subroutine snapshot_create

  !> Gather the state on rank 0. Collective.
  subroutine model_collect(model, snapshot)
    type(model_t), intent(in) :: model
    type(snapshot_t), intent(inout) :: snapshot
    associate (parts => model%decomposition, nk => model%geo%nk)
      call decomposition_gather(parts, nk, model%ts(:, :, :, 1), snapshot%tn)
      call decomposition_gather(parts, nk, model%ts(:, :, :, 2), snapshot%sn)
      call decomposition_gather(parts, nk, model%un, snapshot%un)
      call decomposition_gather(parts, nk, model%vn, snapshot%vn)
      call decomposition_gather(parts, 1, model%sshn, snapshot%sshn)
      call decomposition_gather(parts, 2, model%gain, snapshot%gain)
    end associate
  end subroutine model_collect
end module basin_model
