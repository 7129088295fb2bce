!> Convective adjustment on random columns: stable afterwards, heat and salt conserved.
program test_convection
  use basin_constants, only: dp
  use basin_convection, only: convection_column
  use basin_eos, only: eos_density_step
  use basin_random, only: random_normal
  use test_support, only: expect, report
  implicit none
  integer, parameter :: n = 13, columns = 500
  real(dp) :: t(n), s(n), t_old(n), s_old(n), thickness(n), depth(n)
  real(dp) :: lost_heat, lost_salt, worst
  logical :: untouched
  integer :: c, k, mixed

  thickness = [(20.0_dp + 11.0_dp * k, k = 1, n)]
  depth = [(sum(thickness(1:k)), k = 0, n - 1)]
  lost_heat = 0.0_dp
  lost_salt = 0.0_dp
  worst = 0.0_dp
  untouched = .true.
  mixed = 0
  do c = 1, columns
    t_old = 8.0_dp + 4.0_dp * random_normal(1, c, [(k, k = 1, n)]) - 0.4_dp * [(k, k = 1, n)]
    s_old = 35.0_dp + 0.5_dp * random_normal(2, c, [(k, k = 1, n)])
    t = t_old
    s = s_old
    call convection_column(n, t, s, thickness, depth)
    lost_heat = max(lost_heat, abs(sum(thickness * (t - t_old))) / sum(thickness * abs(t_old)))
    lost_salt = max(lost_salt, abs(sum(thickness * (s - s_old))) / sum(thickness * s_old))
    worst = max(worst, maxval(eos_density_step(t(:n - 1), s(:n - 1), t(2:), s(2:), depth(2:))))
    if (any(t /= t_old)) mixed = mixed + 1
    t_old = t
    call convection_column(n, t, s, thickness, depth)
    untouched = untouched .and. all(t == t_old)
  end do
  ! Sums of 13 products: some ten roundings of 1.1e-16.
  call expect(lost_heat < 1.0e-14_dp, 'heat is conserved to round-off')
  call expect(lost_salt < 1.0e-14_dp, 'salt is conserved to round-off')
  call expect(worst == 0.0_dp, 'no interface is unstable, mixed ones are neutral')
  call expect(mixed > columns / 2, 'the columns needed mixing')
  call expect(untouched, 'a stable column keeps its bits')
  call report()
end program test_convection
