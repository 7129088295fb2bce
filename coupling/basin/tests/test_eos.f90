!> Equation of state against numbers worked out by hand from the formula and its coefficients.
program test_eos
  use basin_constants, only: dp
  use basin_eos, only: eos_density, eos_density_step
  use test_support, only: expect, report
  implicit none
  ! Rounding of a few terms of order one: far below 1e-12.
  real(dp), parameter :: tolerance = 1.0e-12_dp
  real(dp) :: step

  call expect(abs(eos_density(10.0_dp, 35.0_dp, 0.0_dp)) < tolerance, 'reference water is rho0')
  ! dT = 10: -0.165 (1 + 0.03 * 10) 10 = -2.145
  call expect(abs(eos_density(20.0_dp, 35.0_dp, 0.0_dp) + 2.145_dp) < tolerance, &
              'warm water at the surface is lighter by 2.145 kg/m3')
  ! dT = -8, z = 3000: 0.165 (1 - 0.24 + 0.4491) 8 = 1.596012; dS = 0.5: 0.38277
  call expect(abs(eos_density(2.0_dp, 35.5_dp, 3000.0_dp) - (1.596012_dp + 0.38277_dp)) < tolerance, &
              'cold salty water at 3000 m is denser by 1.978782 kg/m3')
  step = eos_density_step(12.0_dp, 34.0_dp, 4.0_dp, 35.0_dp, 700.0_dp)
  call expect(abs(step - (eos_density(12.0_dp, 34.0_dp, 700.0_dp) &
                          - eos_density(4.0_dp, 35.0_dp, 700.0_dp))) < tolerance, &
              'the density step is the difference of densities at one depth')
  call expect(step == -eos_density_step(4.0_dp, 35.0_dp, 12.0_dp, 34.0_dp, 700.0_dp), &
              'exchanging the waters changes the sign exactly')
  call expect(eos_density_step(7.3_dp, 35.1_dp, 7.3_dp, 35.1_dp, 99.0_dp) == 0.0_dp, &
              'equal waters are exactly neutral')
  call report()
end program test_eos
