!> Of the stand-in: run control.
module in_out_manager
  implicit none
  public
  integer :: nit000 = 1, nitend = 6, nitrst = 6, ndate0 = 610101, nleapy = 30, nstop = 0, numout = 6
  logical :: ln_rstart = .false., ln_tsd_init = .false., lwp = .true.
end module in_out_manager
