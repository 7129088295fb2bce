!> The part of the grid that a rank works on: owned cells and halo, ready for the kernels.
module basin_geometry
  use basin_constants, only: dp, halo
  use basin_decomposition, only: decomposition_t, decomposition_localise
  use basin_grid, only: grid_mask, grid_t
  use basin_settings, only: settings_t
  implicit none
  private
  public :: geometry_t, geometry_create

  !> Local arrays run over (1 - halo:ni + halo, 1 - halo:nj + halo).
  type geometry_t
    integer :: ni = 0
    integer :: nj = 0
    integer :: nk = 0                  !< levels that can be wet: nz - 1
    integer, allocatable :: levels(:, :)                        !< wet levels
    real(dp), allocatable, dimension(:, :) :: area, rarea       !< m2 and 1/m2, at T, 0 on land
    real(dp), allocatable, dimension(:, :) :: e2u, e1v          !< m, lengths of faces
    real(dp), allocatable, dimension(:, :) :: re1u, re2v        !< 1/m, distances across faces
    real(dp), allocatable, dimension(:, :) :: drag_u, drag_v    !< s, r / (r2 + f2) at U and V
    real(dp), allocatable, dimension(:, :) :: turn              !< m2 s, Coriolis weight at F
    real(dp), allocatable, dimension(:, :) :: rarea_u, rarea_v  !< 1/m2, 1/(e1 e2) at U and V
    real(dp), allocatable, dimension(:, :, :) :: tmask, umask, vmask
    real(dp), allocatable, dimension(:) :: e3t, e3w, gdept, gdepw !< m
  end type geometry_t

contains

  !> Cut this rank's part out of the grid.
  !>
  !> Weights of the momentum balance r u - f v = A_u, r v + f u = A_v: `drag` = r / (r2 + f2) and,
  !> shared by each neighbouring pair of U and V points through the corner F between them,
  !> `turn` = e1 e2 f / (r2 + f2) / 4. Sharing makes the Coriolis force do no work exactly.
  subroutine geometry_create(geometry, grid, decomposition, settings)
    type(geometry_t), intent(out) :: geometry
    type(grid_t), intent(in) :: grid
    type(decomposition_t), intent(in) :: decomposition
    type(settings_t), intent(in) :: settings
    real(dp) :: r
    real(dp) :: ff_u(grid%nx, grid%ny), ff_v(grid%nx, grid%ny)

    r = settings%rn_friction
    geometry%ni = decomposition%ni
    geometry%nj = decomposition%nj
    geometry%nk = grid%nz - 1
    geometry%e3t = grid%e3t(1:grid%nz - 1)
    geometry%e3w = grid%e3w(1:grid%nz - 1)
    geometry%gdept = grid%gdept(1:grid%nz - 1)
    geometry%gdepw = grid%gdepw(1:grid%nz - 1)
    call cut_mask('t', geometry%tmask)
    call cut_mask('u', geometry%umask)
    call cut_mask('v', geometry%vmask)
    call cut(real(grid%mbathy, dp), .false., geometry%rarea)
    allocate(geometry%levels, source=nint(geometry%rarea))
    call cut(grid%e1t * grid%e2t, .true., geometry%area)
    geometry%rarea = geometry%tmask(:, :, 1) / geometry%area
    geometry%area = geometry%tmask(:, :, 1) * geometry%area
    call cut(grid%e2u, .true., geometry%e2u)
    call cut(grid%e1v, .true., geometry%e1v)
    call cut(1.0_dp / grid%e1u, .true., geometry%re1u)
    call cut(1.0_dp / grid%e2v, .true., geometry%re2v)
    ff_u = grid%ff_t
    ff_v = grid%ff_f
    call cut(r / (r**2 + ff_u**2), .true., geometry%drag_u)
    call cut(r / (r**2 + ff_v**2), .true., geometry%drag_v)
    call cut(0.25_dp * grid%e1f * grid%e2f * grid%ff_f / (r**2 + grid%ff_f**2), .true., &
             geometry%turn)
    call cut(1.0_dp / (grid%e1u * grid%e2u), .true., geometry%rarea_u)
    call cut(1.0_dp / (grid%e1v * grid%e2v), .true., geometry%rarea_v)

  contains

    subroutine cut(global, clamp, piece)
      real(dp), intent(in) :: global(grid%nx, grid%ny)
      logical, intent(in) :: clamp
      real(dp), allocatable, intent(out) :: piece(:, :)
      allocate(piece(1 - halo:decomposition%ni + halo, 1 - halo:decomposition%nj + halo))
      call decomposition_localise(decomposition, global, clamp, piece)
    end subroutine cut

    subroutine cut_mask(point, piece)
      character(len=1), intent(in) :: point
      real(dp), allocatable, intent(out) :: piece(:, :, :)
      integer, allocatable :: mask(:, :, :)
      integer :: k
      mask = grid_mask(grid, point)
      allocate(piece(1 - halo:decomposition%ni + halo, 1 - halo:decomposition%nj + halo, &
                     geometry%nk))
      do k = 1, geometry%nk
        call decomposition_localise(decomposition, real(mask(:, :, k), dp), .false., piece(:, :, k))
      end do
    end subroutine cut_mask
  end subroutine geometry_create
end module basin_geometry
