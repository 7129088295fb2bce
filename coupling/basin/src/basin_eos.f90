!> NEMO's simplified equation of state (S-EOS) with the coefficients of the DINO configuration.
!>
!>   rho - rho0 = -a0 (1 + lambda1/2 dT + mu1 z) dT + b0 dS,   dT = T - 10, dS = S - 35, z depth
!>
!> Reference: NEMO 5 manual, nameos; lambda2, mu2 and nu are zero in DINO.
module basin_eos
  use basin_constants, only: dp
  implicit none
  private
  public :: eos_density, eos_density_step

  real(dp), parameter :: t0 = 10.0_dp       ! degC
  real(dp), parameter :: s0 = 35.0_dp       ! g/kg
  real(dp), parameter :: a0 = 0.165_dp      ! kg/m3/K, thermal expansion
  real(dp), parameter :: b0 = 0.76554_dp    ! kg/m3/(g/kg), haline contraction
  real(dp), parameter :: lambda1 = 0.06_dp  ! 1/K, cabbeling
  real(dp), parameter :: mu1 = 1.4970e-4_dp ! 1/m, thermobaricity

contains

  !> Density anomaly rho - rho0 [kg/m3] of temperature [degC] and salinity [g/kg] at depth [m].
  elemental function eos_density(temperature, salinity, depth) result(anomaly)
    real(dp), intent(in) :: temperature
    real(dp), intent(in) :: salinity
    real(dp), intent(in) :: depth
    real(dp) :: anomaly
    real(dp) :: dt
    dt = temperature - t0
    anomaly = -a0 * (1.0_dp + 0.5_dp * lambda1 * dt + mu1 * depth) * dt + b0 * (salinity - s0)
  end function eos_density

  !> Density of the upper minus that of the lower water [kg/m3], both brought to the same depth [m].
  !>
  !> Positive: statically unstable. The difference is factored, so that equal waters give exactly
  !> zero and exchanging them exactly the opposite sign.
  elemental function eos_density_step(t_upper, s_upper, t_lower, s_lower, depth) result(step)
    real(dp), intent(in) :: t_upper
    real(dp), intent(in) :: s_upper
    real(dp), intent(in) :: t_lower
    real(dp), intent(in) :: s_lower
    real(dp), intent(in) :: depth
    real(dp) :: step
    real(dp) :: expansion
    expansion = a0 * (1.0_dp + mu1 * depth + 0.5_dp * lambda1 * ((t_upper - t0) + (t_lower - t0)))
    step = b0 * (s_upper - s_lower) - expansion * (t_upper - t_lower)
  end function eos_density_step
end module basin_eos
