!> Elementary functions, one value at a time.
!>
!> Compilers replace cos, sin, tanh in array expressions by vector versions whose last bits differ
!> from the scalar ones, so that a value comes to depend on its place in the array. A call into
!> another file cannot be replaced. None of this is in the time step's inner loops.
module basin_functions
  use basin_constants, only: dp
  implicit none
  private
  public :: scalar_cos, scalar_sin, scalar_exp, scalar_tanh

contains

  elemental real(dp) function scalar_cos(x)
    real(dp), intent(in) :: x
    scalar_cos = cos(x)
  end function scalar_cos

  elemental real(dp) function scalar_sin(x)
    real(dp), intent(in) :: x
    scalar_sin = sin(x)
  end function scalar_sin

  elemental real(dp) function scalar_exp(x)
    real(dp), intent(in) :: x
    scalar_exp = exp(x)
  end function scalar_exp

  elemental real(dp) function scalar_tanh(x)
    real(dp), intent(in) :: x
    scalar_tanh = tanh(x)
  end function scalar_tanh
end module basin_functions
