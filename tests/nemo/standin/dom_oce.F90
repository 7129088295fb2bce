!> Of the stand-in: the domain.
module dom_oce
  use par_oce
  implicit none
  public
  integer, allocatable :: mig(:, :), mjg(:, :)
  real(wp), allocatable, target :: tmask(:, :, :)
  real(wp) :: rn_Dt = 14400._wp
  integer :: ndastp = 610101
end module dom_oce
