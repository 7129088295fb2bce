!> Of the stand-in: halos of a closed basin on one rank; between ranks they are not needed here.
module lbclnk
  use par_oce
  implicit none
  private
  public :: lbc_lnk
contains
  subroutine lbc_lnk(cdname, field, cd_type, psgn)
    character(len=*), intent(in) :: cdname, cd_type
    real(wp), intent(inout) :: field(:, :)
    real(wp), intent(in) :: psgn
    field(:nn_hls, :) = 0
    if (cdname == '' .or. cd_type == '' .or. psgn == 0) stop 9
  end subroutine lbc_lnk
end module lbclnk
