!> mesh_mask.nc as NEMO writes it: coordinates, metric lengths, masks, levels.
module basin_mesh
  use netcdf
  use basin_constants, only: dp
  use basin_error, only: error_t
  use basin_grid, only: grid_mask, grid_t
  use basin_netcdf, only: netcdf_check, netcdf_define_coordinates, netcdf_domain_attributes, &
    netcdf_move, netcdf_put_coordinates
  implicit none
  private
  public :: mesh_write

contains

  !> Write <folder>/mesh_mask.nc; rank 0 only.
  subroutine mesh_write(grid, folder, error)
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: folder
    type(error_t), intent(inout) :: error
    character(len=:), allocatable :: path, file
    integer :: id, dims(4)

    path = trim(folder)//'/mesh_mask.nc'
    file = path//'.partial'
    call netcdf_check(nf90_create(file, ior(nf90_clobber, nf90_netcdf4), id), file, 'creation', error)
    if (error%raised) return
    call netcdf_define_coordinates(id, grid, dims, file, error)
    call netcdf_domain_attributes(id, grid, file, error)
    call describe(id, grid, file, error)
    call netcdf_put_coordinates(id, grid, 0.0_dp, file, error)
    call put_masks(id, dims, grid, file, error)
    call put_planes(id, dims, grid, file, error)
    call put_levels(id, dims, grid, file, error)
    call netcdf_check(nf90_close(id), file, 'closing', error)
    call netcdf_move(file, path, error)
  end subroutine mesh_write

  !> Name of the configuration and what is periodic.
  subroutine describe(id, grid, file, error)
    integer, intent(in) :: id
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status(7)

    status(1) = nf90_put_att(id, nf90_global, 'CfgName', 'BASIN')
    status(2) = nf90_put_att(id, nf90_global, 'Iperio', merge(1, 0, grid%cyclic))
    status(3) = nf90_put_att(id, nf90_global, 'Jperio', 0)
    status(4) = nf90_put_att(id, nf90_global, 'NFold', 0)
    status(5) = nf90_put_att(id, nf90_global, 'NFtype', '-')
    status(6) = nf90_put_att(id, nf90_global, 'VertCoord', 'zco')
    status(7) = nf90_put_att(id, nf90_global, 'IsfCav', 0)
    call netcdf_check(minval(status), file, 'attributes', error)
  end subroutine describe

  !> Masks of the levels (byte, fmask float) and of the surface.
  subroutine put_masks(id, dims, grid, file, error)
    integer, intent(in) :: id
    integer, intent(in) :: dims(4)
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    character(len=1), parameter :: points(4) = ['t', 'u', 'v', 'f']
    integer, allocatable :: mask(:, :, :)
    integer :: n

    do n = 1, 4
      mask = grid_mask(grid, points(n))
      call put(points(n)//'mask', merge(nf90_float, nf90_byte, n == 4), mask)
      if (n < 4) call put(points(n)//'maskutil', nf90_byte, mask(:, :, 1:1))
    end do

  contains

    subroutine put(name, kind, values)
      character(len=*), intent(in) :: name
      integer, intent(in) :: kind
      integer, intent(in) :: values(:, :, :)
      integer :: variable
      if (size(values, 3) == 1) then
        call check(nf90_def_var(id, name, kind, dims([1, 2, 4]), variable), name)
        call check(nf90_put_var(id, variable, values(:, :, 1)), name)
      else
        call check(nf90_def_var(id, name, kind, dims, variable, deflate_level=1), name)
        call check(nf90_put_var(id, variable, values), name)
      end if
    end subroutine put

    subroutine check(status, name)
      integer, intent(in) :: status
      character(len=*), intent(in) :: name
      call netcdf_check(status, file, name, error)
    end subroutine check
  end subroutine put_masks

  !> Coordinates, metric lengths and Coriolis parameter.
  subroutine put_planes(id, dims, grid, file, error)
    integer, intent(in) :: id
    integer, intent(in) :: dims(4)
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call put('glamt', grid%glamt)
    call put('glamu', grid%glamu)
    call put('glamv', grid%glamv)
    call put('glamf', grid%glamf)
    call put('gphit', grid%gphit)
    call put('gphiu', grid%gphiu)
    call put('gphiv', grid%gphiv)
    call put('gphif', grid%gphif)
    call put('e1t', grid%e1t)
    call put('e1u', grid%e1u)
    call put('e1v', grid%e1v)
    call put('e1f', grid%e1f)
    call put('e2t', grid%e2t)
    call put('e2u', grid%e2u)
    call put('e2v', grid%e2v)
    call put('e2f', grid%e2f)
    call put('ff_f', grid%ff_f)
    call put('ff_t', grid%ff_t)
    call put_integer('mbathy', grid%mbathy)
    call put_integer('misf', min(grid%mbathy, 1))

  contains

    subroutine put(name, values)
      character(len=*), intent(in) :: name
      real(dp), intent(in) :: values(:, :)
      integer :: variable
      call netcdf_check(nf90_def_var(id, name, nf90_double, dims([1, 2, 4]), variable), file, name, &
                        error)
      call netcdf_check(nf90_put_var(id, variable, values), file, name, error)
    end subroutine put

    subroutine put_integer(name, values)
      character(len=*), intent(in) :: name
      integer, intent(in) :: values(:, :)
      integer :: variable
      call netcdf_check(nf90_def_var(id, name, nf90_int, dims([1, 2, 4]), variable), file, name, &
                        error)
      call netcdf_check(nf90_put_var(id, variable, values), file, name, error)
    end subroutine put_integer
  end subroutine put_planes

  !> Thickness and depth of levels, as profiles and as volumes.
  subroutine put_levels(id, dims, grid, file, error)
    integer, intent(in) :: id
    integer, intent(in) :: dims(4)
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    character(len=*), parameter :: thicknesses(4) = ['e3t_0', 'e3u_0', 'e3v_0', 'e3f_0']
    character(len=*), parameter :: distances(3) = [character(len=6) :: 'e3w_0', 'e3uw_0', 'e3vw_0']
    integer :: n

    call put_profile('e3t_1d', grid%e3t)
    call put_profile('e3w_1d', grid%e3w)
    call put_profile('gdept_1d', grid%gdept)
    call put_profile('gdepw_1d', grid%gdepw)
    do n = 1, size(thicknesses)
      call put_volume(thicknesses(n), grid%e3t)
    end do
    do n = 1, size(distances)
      call put_volume(trim(distances(n)), grid%e3w)
    end do
    call put_volume('gdept_0', grid%gdept)
    call put_volume('gdepw_0', grid%gdepw)

  contains

    subroutine put_profile(name, profile)
      character(len=*), intent(in) :: name
      real(dp), intent(in) :: profile(:)
      integer :: variable
      call netcdf_check(nf90_def_var(id, name, nf90_double, dims(3:4), variable), file, name, error)
      call netcdf_check(nf90_put_var(id, variable, profile), file, name, error)
    end subroutine put_profile

    subroutine put_volume(name, profile)
      character(len=*), intent(in) :: name
      real(dp), intent(in) :: profile(:)
      real(dp) :: volume(grid%nx, grid%ny, grid%nz)
      integer :: variable
      volume = spread(spread(profile, 1, grid%ny), 1, grid%nx)
      call netcdf_check(nf90_def_var(id, name, nf90_double, dims, variable, deflate_level=1), file, &
                        name, error)
      call netcdf_check(nf90_put_var(id, variable, volume), file, name, error)
    end subroutine put_volume
  end subroutine put_levels
end module basin_mesh
