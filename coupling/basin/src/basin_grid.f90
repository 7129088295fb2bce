!> The grid: a spherical sector on an Arakawa C-grid with z levels, every name as in NEMO.
!>
!> Index (i, j) of U is the east face, of V the north face, of F the north-east corner of T cell
!> (i, j). All arrays are global and known to every rank; they are two-dimensional and small.
module basin_grid
  use basin_constants, only: degree, dp, earth_radius, earth_rotation, pi
  use basin_functions, only: scalar_cos, scalar_exp, scalar_sin, scalar_tanh
  use basin_settings, only: settings_t
  implicit none
  private
  public :: grid_t, grid_create, grid_mask

  type grid_t
    integer :: nx = 0
    integer :: ny = 0
    integer :: nz = 0                  !< levels; the last one is land
    logical :: cyclic = .false.
    real(dp), allocatable, dimension(:, :) :: glamt, glamu, glamv, glamf !< degrees east
    real(dp), allocatable, dimension(:, :) :: gphit, gphiu, gphiv, gphif !< degrees north
    real(dp), allocatable, dimension(:, :) :: e1t, e1u, e1v, e1f         !< m, along i
    real(dp), allocatable, dimension(:, :) :: e2t, e2u, e2v, e2f         !< m, along j
    real(dp), allocatable, dimension(:, :) :: ff_t, ff_f                 !< 1/s, Coriolis parameter
    integer, allocatable :: mbathy(:, :)   !< wet levels of a column, 0 on land
    real(dp), allocatable :: e3t(:)        !< m, thickness of levels
    real(dp), allocatable :: e3w(:)        !< m, distance of T points; e3w(k) is above level k
    real(dp), allocatable :: gdept(:)      !< m, depth of T points
    real(dp), allocatable :: gdepw(:)      !< m, depth of the upper face of levels
  end type grid_t

contains

  !> Build the grid that the settings describe.
  subroutine grid_create(grid, settings)
    type(grid_t), intent(out) :: grid
    type(settings_t), intent(in) :: settings

    grid%nx = settings%nn_nx
    grid%ny = settings%nn_ny
    grid%nz = settings%nn_nz
    grid%cyclic = settings%ln_cyclic
    call set_points(grid, settings, 0.0_dp, 0.0_dp, grid%glamt, grid%gphit, grid%e1t, grid%e2t)
    call set_points(grid, settings, 0.5_dp, 0.0_dp, grid%glamu, grid%gphiu, grid%e1u, grid%e2u)
    call set_points(grid, settings, 0.0_dp, 0.5_dp, grid%glamv, grid%gphiv, grid%e1v, grid%e2v)
    call set_points(grid, settings, 0.5_dp, 0.5_dp, grid%glamf, grid%gphif, grid%e1f, grid%e2f)
    grid%ff_t = 2.0_dp * earth_rotation * scalar_sin(grid%gphit * degree)
    grid%ff_f = 2.0_dp * earth_rotation * scalar_sin(grid%gphif * degree)
    call set_levels(grid, settings)
    call set_bathymetry(grid, settings)
  end subroutine grid_create

  !> Coordinates and metric lengths of the points shifted by fractions of a cell from T.
  !>
  !> The southern wall is the south face of row 2: row 1 is land.
  subroutine set_points(grid, settings, shift_i, shift_j, longitude, latitude, e1, e2)
    type(grid_t), intent(in) :: grid
    type(settings_t), intent(in) :: settings
    real(dp), intent(in) :: shift_i
    real(dp), intent(in) :: shift_j
    real(dp), allocatable, intent(out) :: longitude(:, :)
    real(dp), allocatable, intent(out) :: latitude(:, :)
    real(dp), allocatable, intent(out) :: e1(:, :)
    real(dp), allocatable, intent(out) :: e2(:, :)
    integer :: i, j

    allocate(longitude(grid%nx, grid%ny), latitude(grid%nx, grid%ny))
    do j = 1, grid%ny
      do i = 1, grid%nx
        longitude(i, j) = settings%rn_dlon * (i - 1.5_dp + shift_i)
        latitude(i, j) = settings%rn_lat0 + settings%rn_dlat * (j - 1.5_dp + shift_j)
      end do
    end do
    e1 = earth_radius * degree * settings%rn_dlon * scalar_cos(latitude * degree)
    allocate(e2(grid%nx, grid%ny), source=earth_radius * degree * settings%rn_dlat)
  end subroutine set_points

  !> Levels that thicken smoothly from the surface; the wet ones add up to the depth of the floor.
  subroutine set_levels(grid, settings)
    type(grid_t), intent(inout) :: grid
    type(settings_t), intent(in) :: settings
    real(dp) :: stretch(grid%nz)
    integer :: k, wet

    wet = grid%nz - 1
    do k = 1, grid%nz
      stretch(k) = scalar_tanh((k - 0.6_dp * wet) / (0.22_dp * wet))
    end do
    stretch = stretch - stretch(1)
    grid%e3t = settings%rn_e3_top &
               + stretch * ((settings%rn_depth - wet * settings%rn_e3_top) / sum(stretch(1:wet)))
    allocate(grid%gdepw(grid%nz), grid%gdept(grid%nz), grid%e3w(grid%nz))
    grid%gdepw(1) = 0.0_dp
    do k = 2, grid%nz
      grid%gdepw(k) = grid%gdepw(k - 1) + grid%e3t(k - 1)
    end do
    grid%gdept = grid%gdepw + 0.5_dp * grid%e3t
    grid%e3w(1) = 2.0_dp * grid%gdept(1)
    grid%e3w(2:) = grid%gdept(2:) - grid%gdept(:grid%nz - 1)
  end subroutine set_levels

  !> Wet levels of each column: flat floor, or shelves, a ridge, a peninsula and an island.
  subroutine set_bathymetry(grid, settings)
    type(grid_t), intent(inout) :: grid
    type(settings_t), intent(in) :: settings
    real(dp) :: depth
    integer :: i, j

    allocate(grid%mbathy(grid%nx, grid%ny), source=0)
    do j = 2, grid%ny - 1
      do i = merge(1, 2, grid%cyclic), grid%nx - merge(0, 1, grid%cyclic)
        depth = settings%rn_depth
        if (settings%nn_topography == 1) depth = depth * relief(grid, i, j)
        if (depth <= 0.0_dp) cycle
        grid%mbathy(i, j) = max(2, count(grid%gdept(1:grid%nz - 1) <= depth))
      end do
    end do
  end subroutine set_bathymetry

  !> Depth of the floor relative to the deepest, in [0, 1]; 0 is land.
  pure real(dp) function relief(grid, i, j)
    type(grid_t), intent(in) :: grid
    integer, intent(in) :: i
    integer, intent(in) :: j
    real(dp) :: x, y, wall, ridge

    x = (i - 1.5_dp) / (grid%nx - 2)
    y = (j - 1.5_dp) / (grid%ny - 2)
    wall = min(y, 1.0_dp - y)
    if (.not. grid%cyclic) wall = min(wall, x, 1.0_dp - x)
    ridge = 0.4_dp * scalar_exp(-((x - 0.5_dp - 0.08_dp * scalar_sin(2.0_dp * pi * y)) / 0.08_dp)**2)
    relief = min(1.0_dp - ridge, 0.3_dp + 0.7_dp * min(1.0_dp, wall / 0.12_dp))
    if (abs(x - 0.7_dp) < 0.06_dp .and. abs(y - 0.72_dp) < 0.06_dp) relief = 0.0_dp
    if (.not. grid%cyclic .and. x < 0.11_dp .and. abs(y - 0.57_dp) < 0.05_dp) relief = 0.0_dp
  end function relief

  !> Mask of all levels of a point ("t", "u", "v" or "f"), 1 wet and 0 land, shape (nx, ny, nz).
  !> A face is wet where both its cells are, a corner where all four are.
  function grid_mask(grid, point) result(mask)
    type(grid_t), intent(in) :: grid
    character(len=1), intent(in) :: point
    integer, allocatable :: mask(:, :, :)
    integer, allocatable :: wet(:, :), east(:, :)
    integer :: k

    wet = grid%mbathy
    if (point == 'u' .or. point == 'f') then
      east = cshift(wet, 1, 1)
      if (.not. grid%cyclic) east(grid%nx, :) = 0
      wet = min(wet, east)
    end if
    if (point == 'v' .or. point == 'f') wet = min(wet, eoshift(wet, 1, 0, 2))
    allocate(mask(grid%nx, grid%ny, grid%nz))
    do k = 1, grid%nz
      mask(:, :, k) = merge(1, 0, wet >= k)
    end do
  end function grid_mask
end module basin_grid
