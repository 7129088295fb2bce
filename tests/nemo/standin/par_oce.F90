!> A stand-in for NEMO, as far as the hooks of Halocline see it: same names, no physics. Sizes and halo.
module par_oce
  implicit none
  public
  integer, parameter :: wp = selected_real_kind(12, 307), jpts = 2, jp_tem = 1, jp_sal = 2, jpt = 3
  integer, parameter :: Ni0glo = 7, Nj0glo = 5, jpkglo = 3, jpk = jpkglo, nn_hls = 2
  integer :: jpi, jpj, Nis0, Nie0, Njs0, Nje0
end module par_oce
