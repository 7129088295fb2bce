!> Of the stand-in: the configuration's own start, -1 everywhere.
module usrdef_istate
  use par_oce
  implicit none
  private
  public :: usr_def_istate, usr_def_istate_ssh

contains

  subroutine usr_def_istate(pdept, ptmask, pts, pu, pv)
    real(wp), dimension(jpi, jpj, jpk), intent(in) :: pdept, ptmask
    real(wp), intent(out) :: pts(jpi, jpj, jpk, jpts)
    real(wp), dimension(jpi, jpj, jpk), intent(out) :: pu, pv
    pts = -1 + 0*pdept(1, 1, 1)*ptmask(1, 1, 1)
    pu = -1
    pv = -1
  end subroutine usr_def_istate

  subroutine usr_def_istate_ssh(ptmask, pssh)
    real(wp), intent(in) :: ptmask(jpi, jpj, jpk)
    real(wp), intent(out) :: pssh(jpi, jpj)
    pssh = -1 + 0*ptmask(1, 1, 1)
  end subroutine usr_def_istate_ssh

end module usrdef_istate
