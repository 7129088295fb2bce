!> Series of snapshots, states.nc: the layout of the sample data, one file for training and charts.
!>
!> Written under a temporary name and moved into place when the run ends well.
module basin_states
  use netcdf
  use basin_constants, only: day, days_in_month, days_in_year, dp, rcp, rho0
  use basin_error, only: error_t
  use basin_grid, only: grid_mask, grid_t
  use basin_model, only: model_t, snapshot_t
  use basin_netcdf, only: netcdf_check, netcdf_move
  use basin_settings, only: settings_t
  implicit none
  private
  public :: states_t, states_open, states_append, states_close

  real, parameter :: fill = 1.0e20

  type states_t
    integer :: id = -1
    integer :: records = 0
    character(len=:), allocatable :: path
    integer :: time, year, month, kt
    integer :: volume(4)                 !< votemper, vosaline, vozocrtx, vomecrty
    integer :: surface                   !< sossheig
    logical, allocatable, dimension(:, :, :) :: tmask, umask, vmask
  end type states_t

contains

  !> Create the file; rank 0 only.
  subroutine states_open(states, model, error)
    type(states_t), intent(out) :: states
    type(model_t), intent(in) :: model
    type(error_t), intent(inout) :: error
    integer :: dims(4), level

    states%path = trim(model%settings%cn_output)//'/states.nc'
    call check(nf90_create(states%path//'.partial', ior(nf90_clobber, nf90_netcdf4), states%id))
    if (error%raised) return
    states%tmask = grid_mask(model%grid, 't') == 1
    states%umask = grid_mask(model%grid, 'u') == 1
    states%vmask = grid_mask(model%grid, 'v') == 1
    call check(nf90_def_dim(states%id, 'x', model%grid%nx, dims(1)))
    call check(nf90_def_dim(states%id, 'y', model%grid%ny, dims(2)))
    call check(nf90_def_dim(states%id, 'deptht', model%grid%nz, dims(3)))
    call check(nf90_def_dim(states%id, 'time', nf90_unlimited, dims(4)))
    call define_time(states, dims(4), states%path, error)
    call check(nf90_def_var(states%id, 'deptht', nf90_float, dims(3:3), level))
    call check(nf90_put_att(states%id, level, 'units', 'm'))
    call check(nf90_put_att(states%id, level, 'positive', 'down'))
    call check(nf90_put_att(states%id, level, 'axis', 'Z'))
    call check(nf90_put_att(states%id, level, 'standard_name', 'depth'))
    call check(nf90_put_att(states%id, level, 'long_name', 'depth of T, U and V levels (gdept_1d)'))
    call check(nf90_put_var(states%id, level, model%grid%gdept))
    call define_horizontal(states, model%grid, dims(1:2), states%path, error)
    call define_fields(states, dims, states%path, error)
    call describe(states, model, states%path, error)
    call put_parameters(states, model%settings, states%path, error)

  contains

    subroutine check(status)
      integer, intent(in) :: status
      call netcdf_check(status, states%path//'.partial', 'definition', error)
    end subroutine check
  end subroutine states_open

  !> Global attributes.
  subroutine describe(states, model, file, error)
    type(states_t), intent(in) :: states
    type(model_t), intent(in) :: model
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call put('Conventions', 'CF-1.8')
    call put('title', 'Ocean states of the embedded host, experiment '//trim(model%settings%cn_name))
    call put('source', 'Halocline basin: frictional-geostrophic ocean on a C-grid')
    call put('equation_of_state', 'S-EOS with the coefficients of DINO')
    call put('free_surface', 'linear: the first level is e3t_1d + sossheig thick')
    call put('land', '_FillValue outside tmask / umask / vmask (the restarts hold 0 there)')
    call put('grid', 'Arakawa C; grid in mesh_mask.nc')
    call netcdf_check(nf90_put_att(states%id, nf90_global, 'rn_Dt', model%settings%rn_dt), file, &
                      'attribute', error)
    call netcdf_check(nf90_put_att(states%id, nf90_global, 'nn_seed', model%settings%nn_seed), &
                      file, 'attribute', error)
    call netcdf_check(nf90_put_att(states%id, nf90_global, 'rho0', rho0), file, 'rho0', error)
    call netcdf_check(nf90_put_att(states%id, nf90_global, 'rcp', rcp), file, 'rcp', error)

  contains

    subroutine put(name, text)
      character(len=*), intent(in) :: name
      character(len=*), intent(in) :: text
      call netcdf_check(nf90_put_att(states%id, nf90_global, name, text), file, name, error)
    end subroutine put
  end subroutine describe

  !> Physical parameters of the run, scalars: what a generator may be conditioned on (data.parameters).
  subroutine put_parameters(states, settings, file, error)
    type(states_t), intent(in) :: states
    type(settings_t), intent(in) :: settings
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call put('rn_friction', settings%rn_friction, '1/s', 'Rayleigh friction')
    call put('rn_avt0', settings%rn_avt0, 'm2/s', 'vertical diffusivity near the surface')
    call put('rn_avt_deep', settings%rn_avt_deep, 'm2/s', 'vertical diffusivity near the floor')
    call put('rn_aht', settings%rn_aht, 'm2/s', 'horizontal diffusivity')
    call put('rn_wind', settings%rn_wind, 'N/m2', 'amplitude of the double-gyre wind stress')
    call put('rn_lambda', settings%rn_lambda, 'W/m2/K', 'restoring of surface temperature')
    call put('rn_fresh', settings%rn_fresh, 'm/year', 'amplitude of evaporation minus precipitation')

  contains

    subroutine put(name, value, units, long_name)
      character(len=*), intent(in) :: name, units, long_name
      real(dp), intent(in) :: value
      integer :: variable
      call netcdf_check(nf90_def_var(states%id, name, nf90_double, varid=variable), file, name, error)
      call netcdf_check(nf90_put_att(states%id, variable, 'units', units), file, name, error)
      call netcdf_check(nf90_put_att(states%id, variable, 'long_name', long_name), file, name, error)
      call netcdf_check(nf90_put_var(states%id, variable, value), file, name, error)
    end subroutine put
  end subroutine put_parameters

  !> The coordinates along time.
  subroutine define_time(states, dim, file, error)
    type(states_t), intent(inout) :: states
    integer, intent(in) :: dim
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call check(nf90_def_var(states%id, 'time', nf90_double, [dim], states%time))
    call check(nf90_put_att(states%id, states%time, 'units', 'days since 0001-01-01 00:00:00'))
    call check(nf90_put_att(states%id, states%time, 'calendar', '360_day'))
    call check(nf90_put_att(states%id, states%time, 'standard_name', 'time'))
    call check(nf90_put_att(states%id, states%time, 'axis', 'T'))
    call check(nf90_put_att(states%id, states%time, 'long_name', &
                            'time of the snapshot (end of the month named by year and month)'))
    call check(nf90_def_var(states%id, 'year', nf90_int, [dim], states%year))
    call check(nf90_put_att(states%id, states%year, 'long_name', &
                            'model year of the month that the snapshot closes, first year is 1'))
    call check(nf90_def_var(states%id, 'month', nf90_int, [dim], states%month))
    call check(nf90_put_att(states%id, states%month, 'long_name', &
                            'month of the model year (1..12) at whose end this snapshot stands'))
    call check(nf90_def_var(states%id, 'kt', nf90_int, [dim], states%kt))
    call check(nf90_put_att(states%id, states%kt, 'long_name', 'time step'))

  contains

    subroutine check(status)
      integer, intent(in) :: status
      call netcdf_check(status, file, 'time', error)
    end subroutine check
  end subroutine define_time

  !> Longitudes and latitudes of T, U and V points.
  subroutine define_horizontal(states, grid, dims, file, error)
    type(states_t), intent(in) :: states
    type(grid_t), intent(in) :: grid
    integer, intent(in) :: dims(2)
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call put('nav_lon', 'longitude', 'degrees_east', 'T', grid%glamt)
    call put('nav_lat', 'latitude', 'degrees_north', 'T', grid%gphit)
    call put('nav_lon_u', 'longitude', 'degrees_east', 'U', grid%glamu)
    call put('nav_lat_u', 'latitude', 'degrees_north', 'U', grid%gphiu)
    call put('nav_lon_v', 'longitude', 'degrees_east', 'V', grid%glamv)
    call put('nav_lat_v', 'latitude', 'degrees_north', 'V', grid%gphiv)

  contains

    subroutine put(name, standard_name, units, point, values)
      character(len=*), intent(in) :: name, standard_name, units, point
      real(dp), intent(in) :: values(:, :)
      integer :: variable
      call netcdf_check(nf90_def_var(states%id, name, nf90_float, dims, variable), file, name, error)
      call netcdf_check(nf90_put_att(states%id, variable, 'units', units), file, name, error)
      call netcdf_check(nf90_put_att(states%id, variable, 'standard_name', standard_name), file, &
                        name, error)
      call netcdf_check(nf90_put_att(states%id, variable, 'long_name', &
                                     standard_name//' of '//point//' points'), file, name, error)
      call netcdf_check(nf90_put_var(states%id, variable, values), file, name, error)
    end subroutine put
  end subroutine define_horizontal

  !> The five fields.
  subroutine define_fields(states, dims, file, error)
    type(states_t), intent(inout) :: states
    integer, intent(in) :: dims(4)
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error

    call put('votemper', dims, 'degC', 'sea_water_conservative_temperature', &
             'sea water temperature', '', states%volume(1))
    call put('vosaline', dims, '1e-3', 'sea_water_absolute_salinity', 'sea water salinity', '', &
             states%volume(2))
    call put('vozocrtx', dims, 'm/s', 'sea_water_x_velocity', &
             'ocean velocity along i, at U points', '_u', states%volume(3))
    call put('vomecrty', dims, 'm/s', 'sea_water_y_velocity', &
             'ocean velocity along j, at V points', '_v', states%volume(4))
    call put('sossheig', dims([1, 2, 4]), 'm', 'sea_surface_height_above_geoid', &
             'sea surface height', '', states%surface)

  contains

    subroutine put(name, axes, units, standard_name, long_name, point, variable)
      character(len=*), intent(in) :: name, units, standard_name, long_name, point
      integer, intent(in) :: axes(:)
      integer, intent(out) :: variable
      call check(nf90_def_var(states%id, name, nf90_float, axes, variable))
      call check(nf90_def_var_deflate(states%id, variable, 1, 1, 1))
      call check(nf90_put_att(states%id, variable, '_FillValue', fill))
      call check(nf90_put_att(states%id, variable, 'units', units))
      call check(nf90_put_att(states%id, variable, 'standard_name', standard_name))
      call check(nf90_put_att(states%id, variable, 'long_name', long_name))
      call check(nf90_put_att(states%id, variable, 'cell_methods', 'time: point'))
      call check(nf90_put_att(states%id, variable, 'coordinates', &
                              'year month nav_lat'//point//' nav_lon'//point))
    end subroutine put

    subroutine check(status)
      integer, intent(in) :: status
      call netcdf_check(status, file, 'fields', error)
    end subroutine check
  end subroutine define_fields

  !> Append a collected state; rank 0 only.
  subroutine states_append(states, model, snapshot, error)
    type(states_t), intent(inout) :: states
    type(model_t), intent(in) :: model
    type(snapshot_t), intent(in) :: snapshot
    type(error_t), intent(inout) :: error
    integer :: record, last_day

    states%records = states%records + 1
    record = states%records
    last_day = nint(model%kt * model%settings%rn_dt / day) - 1
    call check(nf90_put_var(states%id, states%time, model%kt * model%settings%rn_dt / day, [record]))
    call check(nf90_put_var(states%id, states%year, last_day / days_in_year + 1, [record]))
    call check(nf90_put_var(states%id, states%month, &
                            mod(last_day, days_in_year) / days_in_month + 1, [record]))
    call check(nf90_put_var(states%id, states%kt, model%kt, [record]))
    call put_volume(1, snapshot%tn, states%tmask)
    call put_volume(2, snapshot%sn, states%tmask)
    call put_volume(3, snapshot%un, states%umask)
    call put_volume(4, snapshot%vn, states%vmask)
    call check(nf90_put_var(states%id, states%surface, &
                            merge(real(snapshot%sshn(:, :, 1)), fill, states%tmask(:, :, 1)), &
                            start=[1, 1, record]))

  contains

    subroutine put_volume(n, field, mask)
      integer, intent(in) :: n
      real(dp), intent(in) :: field(:, :, :)
      logical, intent(in) :: mask(:, :, :)
      call check(nf90_put_var(states%id, states%volume(n), merge(real(field), fill, mask), &
                              start=[1, 1, 1, record]))
    end subroutine put_volume

    subroutine check(status)
      integer, intent(in) :: status
      call netcdf_check(status, states%path//'.partial', 'snapshot', error)
    end subroutine check
  end subroutine states_append

  !> Close the file and move it into place.
  subroutine states_close(states, error)
    type(states_t), intent(inout) :: states
    type(error_t), intent(inout) :: error
    if (states%id < 0) return
    call netcdf_check(nf90_close(states%id), states%path//'.partial', 'closing', error)
    call netcdf_move(states%path//'.partial', states%path, error)
    states%id = -1
  end subroutine states_close
end module basin_states
