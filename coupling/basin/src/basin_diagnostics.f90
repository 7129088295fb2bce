!> A row of numbers that describe the ocean: contents, means, energy, overturning, gyres.
!>
!> Rank 0 computes from the collected state, in one order of summation, so that the series has the
!> same bits on every process grid.
module basin_diagnostics
  use basin_constants, only: dp, rcp, rho0
  use basin_eos, only: eos_density_step
  use basin_error, only: error_raise, error_t
  use basin_grid, only: grid_mask, grid_t
  use basin_model, only: model_t, snapshot_t
  implicit none
  private
  public :: diagnostics_t, diagnostics_row, diagnostics_open, diagnostics_write, diagnostics_close

  real(dp), parameter :: deep = 1500.0_dp         ! m, upper limit of the deep ocean
  real(dp), parameter :: below_ekman = 300.0_dp   ! m, upper limit of the overturning

  !> Names of the columns of the file, in order; step and year come before them.
  character(len=*), parameter :: columns = 'heat_content,salt_content,heat_gain,salt_gain,'// &
    'heat_flux,temperature,salinity,deep_temperature,deep_salinity,sst,sss,kinetic_energy,'// &
    'max_u,max_v,max_ssh,overturning,gyre_max,gyre_min,unstable_fraction'

  type diagnostics_t
    real(dp) :: heat_content = 0.0_dp      !< J, rho0 rcp integral of T
    real(dp) :: salt_content = 0.0_dp      !< kg, rho0 integral of S / 1000
    real(dp) :: heat_gain = 0.0_dp         !< J through the surface since the last row
    real(dp) :: salt_gain = 0.0_dp         !< kg through the surface since the last row
    real(dp) :: heat_flux = 0.0_dp         !< W/m2, heat_gain per area and time
    real(dp) :: temperature = 0.0_dp       !< degC, volume mean
    real(dp) :: salinity = 0.0_dp          !< g/kg, volume mean
    real(dp) :: deep_temperature = 0.0_dp  !< degC, mean below 1500 m
    real(dp) :: deep_salinity = 0.0_dp     !< g/kg, mean below 1500 m
    real(dp) :: sst = 0.0_dp               !< degC, area mean of the first level
    real(dp) :: sss = 0.0_dp               !< g/kg, area mean of the first level
    real(dp) :: kinetic_energy = 0.0_dp    !< m2/s2, per mass
    real(dp) :: max_u = 0.0_dp             !< m/s
    real(dp) :: max_v = 0.0_dp             !< m/s
    real(dp) :: max_ssh = 0.0_dp           !< m
    real(dp) :: overturning = 0.0_dp       !< Sv, largest northward transport above 300 m or deeper
    real(dp) :: gyre_max = 0.0_dp          !< Sv, largest barotropic stream function
    real(dp) :: gyre_min = 0.0_dp          !< Sv, smallest barotropic stream function
    real(dp) :: unstable_fraction = 0.0_dp !< 1, volume whose upper neighbour is denser
  end type diagnostics_t

contains

  !> Compute a row; rank 0 only. `seconds` is the time since the last row.
  function diagnostics_row(model, snapshot, seconds) result(row)
    type(model_t), intent(in) :: model
    type(snapshot_t), intent(in) :: snapshot
    real(dp), intent(in) :: seconds
    type(diagnostics_t) :: row
    real(dp), allocatable :: volume(:, :, :), area(:, :)
    integer, allocatable :: mask(:, :, :)
    real(dp) :: total
    integer :: k, first

    associate (grid => model%grid, t => snapshot%tn, s => snapshot%sn)
      mask = grid_mask(grid, 't')
      area = grid%e1t * grid%e2t * mask(:, :, 1)
      allocate(volume(grid%nx, grid%ny, grid%nz))
      do k = 1, grid%nz
        volume(:, :, k) = area * grid%e3t(k) * mask(:, :, k)
      end do
      volume(:, :, 1) = volume(:, :, 1) + area * snapshot%sshn(:, :, 1)
      total = layered_sum(volume)
      row%heat_content = rho0 * rcp * layered_sum(t * volume)
      row%salt_content = 1.0e-3_dp * rho0 * layered_sum(s * volume)
      row%temperature = row%heat_content / (rho0 * rcp * total)
      row%salinity = row%salt_content / (1.0e-3_dp * rho0 * total)
      row%heat_gain = layered_sum(spread(snapshot%gain(:, :, 1) * area, 3, 1))
      row%salt_gain = 1.0e-3_dp * rho0 * layered_sum(spread(snapshot%gain(:, :, 2) * area, 3, 1))
      if (seconds > 0.0_dp) row%heat_flux = row%heat_gain / (sum(area) * seconds)
      first = count(grid%gdepw < deep) + 1
      if (first < grid%nz) then
        row%deep_temperature = layered_sum(t(:, :, first:) * volume(:, :, first:)) &
                               / layered_sum(volume(:, :, first:))
        row%deep_salinity = layered_sum(s(:, :, first:) * volume(:, :, first:)) &
                            / layered_sum(volume(:, :, first:))
      end if
      row%sst = sum(t(:, :, 1) * area) / sum(area)
      row%sss = sum(s(:, :, 1) * area) / sum(area)
      row%max_ssh = maxval(abs(snapshot%sshn))
      row%unstable_fraction = unstable_volume(grid, t, s, volume) / total
    end associate
    call add_motion(row, model%grid, snapshot)
  end function diagnostics_row

  !> Sum level by level and row by row: shorter partial sums lose less.
  pure real(dp) function layered_sum(values)
    real(dp), intent(in) :: values(:, :, :)
    real(dp) :: rows(size(values, 2), size(values, 3)), levels(size(values, 3))
    rows = sum(values, dim=1)
    levels = sum(rows, dim=1)
    layered_sum = sum(levels)
  end function layered_sum

  !> Volume of the cells above which the water would be denser at the depth of the interface [m3].
  real(dp) function unstable_volume(grid, t, s, volume)
    type(grid_t), intent(in) :: grid
    real(dp), intent(in), dimension(:, :, :) :: t, s, volume
    integer :: k

    unstable_volume = 0.0_dp
    do k = 2, grid%nz
      unstable_volume = unstable_volume + sum(volume(:, :, k), mask=grid%mbathy >= k .and. &
        eos_density_step(t(:, :, k - 1), s(:, :, k - 1), t(:, :, k), s(:, :, k), &
                         grid%gdepw(k)) > 0.0_dp)
    end do
  end function unstable_volume

  !> Energy, extremes, overturning and gyres from the velocities.
  subroutine add_motion(row, grid, snapshot)
    type(diagnostics_t), intent(inout) :: row
    type(grid_t), intent(in) :: grid
    type(snapshot_t), intent(in) :: snapshot
    integer, allocatable :: umask(:, :, :), vmask(:, :, :)
    real(dp) :: energy, volume, northward(grid%ny), column(grid%nx, grid%ny)
    integer :: i, k

    umask = grid_mask(grid, 'u')
    vmask = grid_mask(grid, 'v')
    energy = 0.0_dp
    volume = 0.0_dp
    northward = 0.0_dp
    column = 0.0_dp
    associate (u => snapshot%un, v => snapshot%vn)
      do k = 1, grid%nz
        energy = energy + 0.5_dp * grid%e3t(k) * (sum(grid%e1u * grid%e2u * u(:, :, k)**2) &
                                                  + sum(grid%e1v * grid%e2v * v(:, :, k)**2))
        volume = volume + 0.5_dp * grid%e3t(k) * (sum(grid%e1u * grid%e2u * umask(:, :, k)) &
                                                  + sum(grid%e1v * grid%e2v * vmask(:, :, k)))
        if (grid%gdepw(k) >= below_ekman) row%overturning = max(row%overturning, maxval(northward))
        northward = northward + sum(grid%e1v * grid%e3t(k) * v(:, :, k), dim=1)
        column = column + grid%e1v * grid%e3t(k) * v(:, :, k)
      end do
      row%max_u = maxval(abs(u))
      row%max_v = maxval(abs(v))
    end associate
    do i = 2, grid%nx
      column(i, :) = column(i, :) + column(i - 1, :)
    end do
    row%kinetic_energy = energy / volume
    row%overturning = 1.0e-6_dp * row%overturning
    row%gyre_max = 1.0e-6_dp * maxval(column)
    row%gyre_min = 1.0e-6_dp * minval(column)
  end subroutine add_motion

  !> Open the series <folder>/<name>_diagnostics.csv and write the names of the columns.
  subroutine diagnostics_open(unit, folder, name, error)
    integer, intent(out) :: unit
    character(len=*), intent(in) :: folder
    character(len=*), intent(in) :: name
    type(error_t), intent(inout) :: error
    character(len=:), allocatable :: path
    integer :: status

    path = trim(folder)//'/'//trim(name)//'_diagnostics.csv'
    open(newunit=unit, file=path, status='replace', action='write', iostat=status)
    if (status /= 0) then
      call error_raise(error, 'File '//path//' cannot be written: create the folder cn_output.')
      return
    end if
    write(unit, '(a)') 'kt,year,'//columns
  end subroutine diagnostics_open

  !> Append a row.
  subroutine diagnostics_write(unit, kt, year, row)
    integer, intent(in) :: unit
    integer, intent(in) :: kt
    real(dp), intent(in) :: year
    type(diagnostics_t), intent(in) :: row
    character(len=26) :: text(20)
    integer :: n

    write(text, '(es24.16e3)') year, row%heat_content, row%salt_content, row%heat_gain, &
      row%salt_gain, row%heat_flux, row%temperature, row%salinity, row%deep_temperature, &
      row%deep_salinity, row%sst, row%sss, row%kinetic_energy, row%max_u, row%max_v, row%max_ssh, &
      row%overturning, row%gyre_max, row%gyre_min, row%unstable_fraction
    write(unit, '(i0, *(a))') kt, (','//trim(adjustl(text(n))), n = 1, size(text))
    flush(unit)
  end subroutine diagnostics_write

  !> Close the series.
  subroutine diagnostics_close(unit)
    integer, intent(in) :: unit
    close(unit)
  end subroutine diagnostics_close
end module basin_diagnostics
