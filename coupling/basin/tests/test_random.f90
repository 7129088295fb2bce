!> Random numbers: pure in their key, standard normal, different for different keys.
program test_random
  use basin_constants, only: dp
  use basin_random, only: random_normal
  use test_support, only: expect, report
  implicit none
  integer, parameter :: n = 20000
  real(dp) :: draws(n), others(n)
  integer :: i

  draws = random_normal(1, [(i, i = 1, n)], 3)
  others = random_normal(2, [(i, i = 1, n)], 3)
  ! Standard error of the mean 1/sqrt(n) = 0.007, of the variance sqrt(2/n) = 0.01; five of them.
  call expect(abs(sum(draws) / n) < 0.035_dp, 'mean zero')
  call expect(abs(sum(draws**2) / n - 1.0_dp) < 0.05_dp, 'variance one')
  call expect(abs(sum(draws * others) / n) < 0.035_dp, 'seeds are uncorrelated')
  call expect(abs(sum(draws(2:) * draws(:n - 1)) / n) < 0.035_dp, 'steps are uncorrelated')
  call expect(draws(77) == random_normal(1, 77, 3), 'a draw depends on its key only')
  call report()
end program test_random
