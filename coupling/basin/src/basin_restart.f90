!> Restart files in NEMO's format.
!>
!> Required: tn sn un vn (x, y, nav_lev, time_counter) and sshn. All else has a fallback, so that a
!> generated state needs five fields only. Two things are ours and make a restart exact: the
!> amplitudes of the stochastic forcing and the surface input since the last row of diagnostics.
module basin_restart
  use netcdf
  use mpi_f08
  use basin_constants, only: day, days_in_month, days_in_year, dp
  use basin_decomposition, only: decomposition_scatter
  use basin_error, only: error_agree, error_raise, error_t, number_text
  use basin_forcing, only: forcing_spin, modes
  use basin_model, only: model_t, snapshot_create, snapshot_t
  use basin_netcdf, only: netcdf_check, netcdf_define_coordinates, netcdf_domain_attributes, &
    netcdf_move, netcdf_put_coordinates
  implicit none
  private
  public :: date_of, restart_write, restart_read, restart_name

contains

  !> Path of the restart of the present step.
  function restart_name(model) result(path)
    type(model_t), intent(in) :: model
    character(len=:), allocatable :: path
    character(len=8) :: digits
    write(digits, '(i8.8)') model%kt
    path = trim(model%settings%cn_output)//'/'//trim(model%settings%cn_name)//'_'//digits// &
           '_restart.nc'
  end function restart_name

  !> Write a collected state; rank 0 only.
  subroutine restart_write(model, snapshot, error)
    type(model_t), intent(in) :: model
    type(snapshot_t), intent(in) :: snapshot
    type(error_t), intent(inout) :: error
    character(len=:), allocatable :: file
    integer :: id, dims(4), mode

    file = restart_name(model)//'.partial'
    call netcdf_check(nf90_create(file, ior(nf90_clobber, nf90_64bit_offset), id), file, &
                      'creation', error)
    if (error%raised) return
    call netcdf_check(nf90_set_fill(id, nf90_nofill, mode), file, 'fill mode', error)
    call netcdf_define_coordinates(id, model%grid, dims, file, error)
    call define(id, dims, file, error)
    call netcdf_domain_attributes(id, model%grid, file, error)
    call netcdf_check(nf90_enddef(id), file, 'definition', error)
    call netcdf_put_coordinates(id, model%grid, model%kt * model%settings%rn_dt, file, error)
    call put_scalars(id, model, file, error)
    call put_field('tn', snapshot%tn)
    call put_field('sn', snapshot%sn)
    call put_field('un', snapshot%un)
    call put_field('vn', snapshot%vn)
    call put_field('sshn', snapshot%sshn)
    call put_field('basin_heat_gain', snapshot%gain(:, :, 1:1))
    call put_field('basin_salt_gain', snapshot%gain(:, :, 2:2))
    call netcdf_check(nf90_close(id), file, 'closing', error)
    call netcdf_move(file, restart_name(model), error)

  contains

    subroutine put_field(name, field)
      character(len=*), intent(in) :: name
      real(dp), intent(in) :: field(:, :, :)
      integer :: variable, last
      last = size(field, 3)
      call netcdf_check(nf90_inq_varid(id, name, variable), file, name, error)
      if (last == 1) then
        call netcdf_check(nf90_put_var(id, variable, field(:, :, 1)), file, name, error)
      else
        call netcdf_check(nf90_put_var(id, variable, field), file, name, error)
      end if
    end subroutine put_field
  end subroutine restart_write

  !> Define all variables of a restart.
  subroutine define(id, dims, file, error)
    integer, intent(in) :: id
    integer, intent(in) :: dims(4)
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    character(len=*), parameter :: scalars(5) = [character(len=6) :: &
      'kt', 'ndastp', 'adatrj', 'ntime', 'rdt']
    character(len=*), parameter :: volumes(4) = ['tn', 'sn', 'un', 'vn']
    character(len=*), parameter :: surfaces(3) = [character(len=15) :: &
      'sshn', 'basin_heat_gain', 'basin_salt_gain']
    integer :: n, variable, mode_dim

    do n = 1, size(scalars)
      call netcdf_check(nf90_def_var(id, trim(scalars(n)), nf90_double, varid=variable), file, &
                        scalars(n), error)
    end do
    do n = 1, size(volumes)
      call netcdf_check(nf90_def_var(id, volumes(n), nf90_double, dims, variable), file, &
                        volumes(n), error)
    end do
    do n = 1, size(surfaces)
      call netcdf_check(nf90_def_var(id, trim(surfaces(n)), nf90_double, dims([1, 2, 4]), variable), &
                        file, surfaces(n), error)
    end do
    call netcdf_check(nf90_def_dim(id, 'basin_mode', modes, mode_dim), file, 'modes', error)
    call netcdf_check(nf90_def_var(id, 'basin_amplitude', nf90_double, [mode_dim], variable), file, &
                      'basin_amplitude', error)
  end subroutine define

  !> Step, date and amplitudes of the stochastic forcing.
  subroutine put_scalars(id, model, file, error)
    integer, intent(in) :: id
    type(model_t), intent(in) :: model
    character(len=*), intent(in) :: file
    type(error_t), intent(inout) :: error
    real(dp) :: elapsed
    integer :: variable

    elapsed = model%kt * model%settings%rn_dt / day
    call put('kt', real(model%kt, dp))
    call put('ndastp', real(date_of(elapsed), dp))
    call put('adatrj', elapsed)
    call put('ntime', 0.0_dp)
    call put('rdt', model%settings%rn_dt)
    call netcdf_check(nf90_inq_varid(id, 'basin_amplitude', variable), file, 'amplitude', error)
    call netcdf_check(nf90_put_var(id, variable, model%forcing%amplitude), file, 'amplitude', error)

  contains

    subroutine put(name, value)
      character(len=*), intent(in) :: name
      real(dp), intent(in) :: value
      call netcdf_check(nf90_inq_varid(id, name, variable), file, name, error)
      call netcdf_check(nf90_put_var(id, variable, value), file, name, error)
    end subroutine put
  end subroutine put_scalars

  !> Date yyyymmdd of the last day that has been run, as NEMO's ndastp.
  pure integer function date_of(elapsed)
    real(dp), intent(in) :: elapsed   !< days
    integer :: last, year, month
    last = max(ceiling(elapsed) - 1, 0)
    year = last / days_in_year
    month = mod(last, days_in_year) / days_in_month
    date_of = (year + 1) * 10000 + (month + 1) * 100 + mod(last, days_in_month) + 1
  end function date_of

  !> Start from a restart file: rank 0 reads, all receive or fail together. Collective.
  subroutine restart_read(model, path, error)
    type(model_t), intent(inout) :: model
    character(len=*), intent(in) :: path
    type(error_t), intent(inout) :: error
    type(snapshot_t) :: snapshot
    integer :: kt, id
    logical :: amplitudes

    call snapshot_create(snapshot, model)
    kt = 0
    amplitudes = .false.
    if (model%decomposition%rank == 0) then
      call netcdf_check(nf90_open(path, nf90_nowrite, id), path, 'opening the restart', error)
      if (.not. error%raised) then
        call read_fields(id, model, path, snapshot, error)
        call read_extras(id, model, snapshot, kt, amplitudes)
        call netcdf_check(nf90_close(id), path, 'closing', error)
      end if
    end if
    call error_agree(error, model%decomposition%comm)
    if (error%raised) return
    call hand_out(model, snapshot, kt, amplitudes)
  end subroutine restart_read

  !> Read and check the five fields; land becomes zero.
  subroutine read_fields(id, model, path, snapshot, error)
    integer, intent(in) :: id
    type(model_t), intent(in) :: model
    character(len=*), intent(in) :: path
    type(snapshot_t), intent(inout) :: snapshot
    type(error_t), intent(inout) :: error
    call read_field('tn', 't', snapshot%tn)
    call read_field('sn', 't', snapshot%sn)
    call read_field('un', 'u', snapshot%un)
    call read_field('vn', 'v', snapshot%vn)
    call read_field('sshn', 't', snapshot%sshn)

  contains

    subroutine read_field(name, point, field)
      use, intrinsic :: ieee_arithmetic, only: ieee_is_finite
      use basin_grid, only: grid_mask
      character(len=*), intent(in) :: name
      character(len=1), intent(in) :: point
      real(dp), intent(inout) :: field(:, :, :)
      integer, allocatable :: mask(:, :, :)
      integer :: variable, bad

      if (error%raised) return
      if (nf90_inq_varid(id, name, variable) /= nf90_noerr) then
        call error_raise(error, 'Restart '//trim(path)//' must hold the variable '//name// &
                         ', it does not: write tn, sn, un, vn and sshn.')
        return
      end if
      call check_shape(id, path, name, variable, shape(field), error)
      if (error%raised) return
      if (size(field, 3) == 1) then
        call netcdf_check(nf90_get_var(id, variable, field(:, :, 1)), path, name, error)
      else
        call netcdf_check(nf90_get_var(id, variable, field), path, name, error)
      end if
      mask = grid_mask(model%grid, point)
      mask = mask(:, :, 1:size(field, 3))
      bad = count(mask == 1 .and. .not. ieee_is_finite(field))
      if (bad > 0) call error_raise(error, 'Restart '//trim(path)//': '//name//' must be finite '// &
                                    'on wet cells, '//number_text(bad)//' are not: replace them.')
      where (mask == 0) field = 0.0_dp
    end subroutine read_field
  end subroutine read_fields

  !> Compare the dimensions of a variable, apart from time_counter, with those of the grid.
  subroutine check_shape(id, path, name, variable, expected, error)
    integer, intent(in) :: id
    character(len=*), intent(in) :: path
    character(len=*), intent(in) :: name
    integer, intent(in) :: variable
    integer, intent(in) :: expected(3)
    type(error_t), intent(inout) :: error
    integer :: dims(nf90_max_var_dims), rank, n, length, rank_wanted
    character(len=:), allocatable :: found, wanted

    rank_wanted = merge(2, 3, expected(3) == 1)
    call netcdf_check(nf90_inquire_variable(id, variable, ndims=rank, dimids=dims), path, name, error)
    if (error%raised) return
    found = ''
    wanted = ''
    do n = 1, rank
      call netcdf_check(nf90_inquire_dimension(id, dims(n), len=length), path, name, error)
      if (n == rank_wanted + 1 .and. length == 1) cycle
      found = found//' '//number_text(length)
    end do
    do n = 1, rank_wanted
      wanted = wanted//' '//number_text(expected(n))
    end do
    if (found /= wanted .or. rank < rank_wanted) &
      call error_raise(error, 'Restart '//trim(path)//': '//name//' must have the shape (x, y, '// &
                       'level)'//wanted//', got'//found//': check the grid settings or the file.')
  end subroutine check_shape

  !> Read what has a fallback: step number, amplitudes of the noise, surface input.
  subroutine read_extras(id, model, snapshot, kt, amplitudes)
    integer, intent(in) :: id
    type(model_t), intent(inout) :: model
    type(snapshot_t), intent(inout) :: snapshot
    integer, intent(out) :: kt
    logical, intent(out) :: amplitudes
    real(dp) :: value
    integer :: variable

    kt = 0
    if (nf90_inq_varid(id, 'kt', variable) == nf90_noerr) then
      if (nf90_get_var(id, variable, value) == nf90_noerr) kt = nint(value)
    end if
    amplitudes = nf90_inq_varid(id, 'basin_amplitude', variable) == nf90_noerr
    if (amplitudes) &
      amplitudes = nf90_get_var(id, variable, model%forcing%amplitude) == nf90_noerr
    if (nf90_inq_varid(id, 'basin_heat_gain', variable) == nf90_noerr) then
      if (nf90_get_var(id, variable, snapshot%gain(:, :, 1)) /= nf90_noerr) snapshot%gain = 0.0_dp
    end if
    if (nf90_inq_varid(id, 'basin_salt_gain', variable) == nf90_noerr) then
      if (nf90_get_var(id, variable, snapshot%gain(:, :, 2)) /= nf90_noerr) snapshot%gain = 0.0_dp
    end if
  end subroutine read_extras

  !> Distribute what rank 0 has read. Collective.
  subroutine hand_out(model, snapshot, kt, amplitudes)
    type(model_t), intent(inout) :: model
    type(snapshot_t), intent(in) :: snapshot
    integer, intent(inout) :: kt
    logical, intent(inout) :: amplitudes

    associate (parts => model%decomposition, nk => model%geo%nk, comm => model%decomposition%comm)
      call MPI_Bcast(kt, 1, MPI_INTEGER, 0, comm)
      call MPI_Bcast(amplitudes, 1, MPI_LOGICAL, 0, comm)
      call MPI_Bcast(model%forcing%amplitude, modes, MPI_DOUBLE_PRECISION, 0, comm)
      call decomposition_scatter(parts, nk, snapshot%tn, model%ts(:, :, :, 1))
      call decomposition_scatter(parts, nk, snapshot%sn, model%ts(:, :, :, 2))
      call decomposition_scatter(parts, nk, snapshot%un, model%un)
      call decomposition_scatter(parts, nk, snapshot%vn, model%vn)
      call decomposition_scatter(parts, 1, snapshot%sshn, model%sshn)
      call decomposition_scatter(parts, 2, snapshot%gain, model%gain)
    end associate
    model%kt = kt
    if (model%settings%nn_kt >= 0) model%kt = model%settings%nn_kt
    if (.not. amplitudes) call forcing_spin(model%forcing, model%settings, model%kt)
  end subroutine hand_out
end module basin_restart
