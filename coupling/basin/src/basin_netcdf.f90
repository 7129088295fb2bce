!> What all netCDF files of the model share: status to sentence, attributes, moving into place.
module basin_netcdf
  use netcdf
  use basin_error, only: error_raise, error_t
  use basin_grid, only: grid_t
  implicit none
  private
  public :: netcdf_check, netcdf_domain_attributes, netcdf_put_coordinates, netcdf_move
  public :: netcdf_define_coordinates

contains

  !> Raise an error if a netCDF call failed.
  subroutine netcdf_check(status, file, what, error)
    integer, intent(in) :: status
    character(len=*), intent(in) :: file
    character(len=*), intent(in) :: what
    type(error_t), intent(inout) :: error
    if (status == nf90_noerr) return
    call error_raise(error, 'File '//trim(file)//', '//what//': '//trim(nf90_strerror(status))// &
                     '; check the path, the space left and that the file is netCDF.')
  end subroutine netcdf_check

  !> NEMO's attributes of a file that holds the whole domain.
  subroutine netcdf_domain_attributes(id, grid, file, error)
    integer, intent(in) :: id
    type(grid_t), intent(in) :: grid
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: status(10)

    status(1) = nf90_put_att(id, nf90_global, 'DOMAIN_number_total', 1)
    status(2) = nf90_put_att(id, nf90_global, 'DOMAIN_number', 0)
    status(3) = nf90_put_att(id, nf90_global, 'DOMAIN_dimensions_ids', [1, 2])
    status(4) = nf90_put_att(id, nf90_global, 'DOMAIN_size_global', [grid%nx, grid%ny])
    status(5) = nf90_put_att(id, nf90_global, 'DOMAIN_size_local', [grid%nx, grid%ny])
    status(6) = nf90_put_att(id, nf90_global, 'DOMAIN_position_first', [1, 1])
    status(7) = nf90_put_att(id, nf90_global, 'DOMAIN_position_last', [grid%nx, grid%ny])
    status(8) = nf90_put_att(id, nf90_global, 'DOMAIN_halo_size_start', [0, 0])
    status(9) = nf90_put_att(id, nf90_global, 'DOMAIN_halo_size_end', [0, 0])
    status(10) = nf90_put_att(id, nf90_global, 'DOMAIN_type', 'BOX')
    call netcdf_check(minval(status), file, 'domain attributes', error)
  end subroutine netcdf_domain_attributes

  !> Define NEMO's dimensions (x, y, nav_lev, time_counter unlimited) and their coordinates.
  subroutine netcdf_define_coordinates(id, grid, dims, file, error)
    integer, intent(in) :: id
    type(grid_t), intent(in) :: grid
    integer, intent(out) :: dims(4)
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: variable

    call netcdf_check(nf90_def_dim(id, 'x', grid%nx, dims(1)), file, 'dimension x', error)
    call netcdf_check(nf90_def_dim(id, 'y', grid%ny, dims(2)), file, 'dimension y', error)
    call netcdf_check(nf90_def_dim(id, 'nav_lev', grid%nz, dims(3)), file, 'dimension', error)
    call netcdf_check(nf90_def_dim(id, 'time_counter', nf90_unlimited, dims(4)), file, &
                      'dimension time_counter', error)
    call netcdf_check(nf90_def_var(id, 'nav_lon', nf90_float, dims(1:2), variable), file, &
                      'nav_lon', error)
    call netcdf_check(nf90_def_var(id, 'nav_lat', nf90_float, dims(1:2), variable), file, &
                      'nav_lat', error)
    call netcdf_check(nf90_def_var(id, 'nav_lev', nf90_float, dims(3:3), variable), file, &
                      'nav_lev', error)
    call netcdf_check(nf90_def_var(id, 'time_counter', nf90_float, dims(4:4), variable), file, &
                      'time_counter', error)
  end subroutine netcdf_define_coordinates

  !> Write the coordinates that netcdf_define_coordinates defined; `seconds` is the model time.
  subroutine netcdf_put_coordinates(id, grid, seconds, file, error)
    use basin_constants, only: dp
    integer, intent(in) :: id
    type(grid_t), intent(in) :: grid
    real(dp), intent(in) :: seconds
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    integer :: variable

    call netcdf_check(nf90_inq_varid(id, 'nav_lon', variable), file, 'nav_lon', error)
    call netcdf_check(nf90_put_var(id, variable, grid%glamt), file, 'nav_lon', error)
    call netcdf_check(nf90_inq_varid(id, 'nav_lat', variable), file, 'nav_lat', error)
    call netcdf_check(nf90_put_var(id, variable, grid%gphit), file, 'nav_lat', error)
    call netcdf_check(nf90_inq_varid(id, 'nav_lev', variable), file, 'nav_lev', error)
    call netcdf_check(nf90_put_var(id, variable, grid%gdept), file, 'nav_lev', error)
    call netcdf_check(nf90_inq_varid(id, 'time_counter', variable), file, 'time', error)
    call netcdf_check(nf90_put_var(id, variable, [seconds]), file, 'time_counter', error)
  end subroutine netcdf_put_coordinates

  !> Move a finished file to its name, so that nobody ever reads half of it.
  subroutine netcdf_move(from, to, error)
    use, intrinsic :: iso_c_binding, only: c_char, c_int, c_null_char
    character(len=*), intent(in) :: from
    character(len=*), intent(in) :: to
    type(error_t), intent(inout) :: error
    interface
      integer(c_int) function c_rename(old, new) bind(c, name='rename')
        import :: c_char, c_int
        character(kind=c_char), intent(in) :: old(*)
        character(kind=c_char), intent(in) :: new(*)
      end function c_rename
    end interface

    if (error%raised) return
    if (c_rename(trim(from)//c_null_char, trim(to)//c_null_char) /= 0) &
      call error_raise(error, 'File '//trim(from)//' cannot be moved to '//trim(to)// &
                       ': check that the folder is writable.')
  end subroutine netcdf_move
end module basin_netcdf
