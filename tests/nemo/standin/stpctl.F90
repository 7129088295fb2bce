!> Of the stand-in: end of a step.
module stpctl
  use par_oce
  use oce
  use in_out_manager
  use lib_mpp
  implicit none
  private
  public :: stp_ctl
contains
  subroutine stp_ctl(kt, Kmm)
    integer, intent(in) :: kt, Kmm
    if (lwp) write (numout, '(a, i0, 2f10.1)') 'step ', kt, ts(Nie0, Nje0, 1, jp_tem, Kmm), ssh(Nie0, Nje0, Kmm)
    if (.not. abs(ts(Nie0, Nje0, 1, jp_tem, Kmm)) < 1e6_wp) call ctl_stop('stp_ctl: temperature')
  end subroutine stp_ctl
end module stpctl
