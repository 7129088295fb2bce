!> Kinds and physical constants; the values of density and heat capacity are NEMO's.
module basin_constants
  use, intrinsic :: iso_fortran_env, only: int32, int64, real64
  implicit none
  private

  integer, parameter, public :: dp = real64
  integer, parameter, public :: i4 = int32
  integer, parameter, public :: i8 = int64

  real(dp), parameter, public :: pi = 3.141592653589793238_dp
  real(dp), parameter, public :: degree = pi / 180.0_dp      !< radians per degree
  real(dp), parameter, public :: earth_radius = 6371229.0_dp !< m
  real(dp), parameter, public :: earth_rotation = 7.292115083046061e-5_dp !< 1/s
  real(dp), parameter, public :: gravity = 9.80665_dp        !< m/s2
  real(dp), parameter, public :: rho0 = 1026.0_dp            !< kg/m3, reference density
  real(dp), parameter, public :: rcp = 3991.86795711963_dp   !< J/kg/K, heat capacity of sea water
  real(dp), parameter, public :: day = 86400.0_dp            !< s
  integer, parameter, public :: days_in_month = 30           !< the year has 12 months of 30 days
  integer, parameter, public :: days_in_year = 360
  integer, parameter, public :: halo = 2                     !< width of the halo, cells
  integer, parameter, public :: path_length = 512            !< characters in a file name
end module basin_constants
