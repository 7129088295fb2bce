!> Counter-based random numbers: a draw is a pure function of (seed, step, index).
!>
!> Nothing is carried from draw to draw, so that a restart in the middle, another process grid or
!> another order of calls gives the same numbers.
module basin_random
  use basin_constants, only: dp, i8, pi
  use basin_functions, only: scalar_cos
  implicit none
  private
  public :: random_normal

contains

  !> Standard normal number for a seed, a time step and an index (Box-Muller on two hashed words).
  elemental function random_normal(seed, step, index) result(value)
    integer, intent(in) :: seed
    integer, intent(in) :: step
    integer, intent(in) :: index
    real(dp) :: value
    real(dp) :: radius
    radius = sqrt(-2.0_dp * log(uniform(seed, step, 2 * index)))
    value = radius * scalar_cos(2.0_dp * pi * uniform(seed, step, 2 * index + 1))
  end function random_normal

  !> Uniform number in (0, 1] from the upper 53 bits of the hash.
  elemental function uniform(seed, step, word) result(value)
    integer, intent(in) :: seed
    integer, intent(in) :: step
    integer, intent(in) :: word
    real(dp) :: value
    integer(i8) :: bits
    bits = scramble(scramble(scramble(int(seed, i8)) + int(step, i8)) + int(word, i8))
    value = (real(shiftr(bits, 11), dp) + 1.0_dp) * 2.0_dp**(-53)
  end function uniform

  !> Finaliser of SplitMix64 (Steele, Lea and Flood, 2014); the build lets integers wrap.
  elemental function scramble(word) result(bits)
    integer(i8), intent(in) :: word
    integer(i8) :: bits
    bits = word + int(z'1e3779b97f4a7c15', i8)
    bits = ieor(bits, shiftr(bits, 30)) * (-4658895280553007687_i8)
    bits = ieor(bits, shiftr(bits, 27)) * (-7723592293110705685_i8)
    bits = ieor(bits, shiftr(bits, 31))
  end function scramble
end module basin_random
