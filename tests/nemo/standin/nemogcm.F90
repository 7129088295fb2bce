!> Of the stand-in: start, time steps that add 1 to every field and change the time levels as RK3 does, end.
module nemogcm
  use mpi
  use par_oce
  use oce
  use dom_oce
  use sbc_oce
  use in_out_manager
  use lib_mpp
  use restart
  use usrdef_istate
  use stpctl
  implicit none
  private
  public :: nemo_gcm

contains

  subroutine nemo_gcm
    integer :: kt, Nbb, Nnn, Naa, Nrhs, ierr
    real(wp), allocatable :: depth(:, :, :)

    call mpp_start
    call set_domain
    Nbb = 1; Nnn = 2; Naa = 3
    call rst_read_ssh(Nbb, Nnn, Naa)
    depth = tmask
    if (.not. ln_tsd_init) call usr_def_istate(depth, tmask, ts(:, :, :, :, Nbb), uu(:, :, :, Nbb), vv(:, :, :, Nbb))
    kt = nit000
    do while (kt <= nitend .and. nstop == 0)
      call rst_opn(kt)
      ts(:, :, :, :, Naa) = ts(:, :, :, :, Nbb) + 1
      uu(:, :, :, Naa) = uu(:, :, :, Nbb) + 1
      vv(:, :, :, Naa) = vv(:, :, :, Nbb) + 1
      ssh(:, :, Naa) = ssh(:, :, Nbb) + 1
      Nrhs = Nbb; Nbb = Naa; Naa = Nrhs
      call rst_write(kt)
      call stp_ctl(kt, Nbb)
      kt = kt + 1
    end do
    call mpi_finalize(ierr)
    if (mpprank == 0 .and. nstop > 0) stop 123
  end subroutine nemo_gcm

  !> Divide the globe among the ranks along i, unevenly; the outermost ring is land.
  subroutine set_domain
    integer :: first, last, ji, jj
    namelist /standin/ nitend, nitrst, nn_fsbc, nleapy, nstop, ln_rstart, ln_tsd_init

    open (10, file='namelist_standin', status='old')
    read (10, nml=standin)
    close (10)
    first = mpprank*Ni0glo/mppsize + 1
    last = (mpprank + 1)*Ni0glo/mppsize
    jpi = last - first + 1 + 2*nn_hls
    jpj = Nj0glo + 2*nn_hls
    Nis0 = 1 + nn_hls; Nie0 = jpi - nn_hls
    Njs0 = 1 + nn_hls; Nje0 = jpj - nn_hls
    allocate (mig(jpi, 0:nn_hls), mjg(jpj, 0:nn_hls), tmask(jpi, jpj, jpk))
    mig(:, 0) = [(ji - nn_hls + first - 1, ji=1, jpi)]
    mjg(:, 0) = [(jj - nn_hls, jj=1, jpj)]
    tmask = 1
    do ji = 1, jpi
      if (mig(ji, 0) <= 1 .or. mig(ji, 0) >= Ni0glo) tmask(ji, :, :) = 0
    end do
    do jj = 1, jpj
      if (mjg(jj, 0) <= 1 .or. mjg(jj, 0) >= Nj0glo) tmask(:, jj, :) = 0
    end do
    tmask(:, :, jpk) = 0
    allocate (ts(jpi, jpj, jpk, jpts, jpt), uu(jpi, jpj, jpk, jpt), vv(jpi, jpj, jpk, jpt), ssh(jpi, jpj, jpt))
    ts = -2; uu = -2; vv = -2; ssh = -2
    if (lwp) write (numout, '(a, i0, a)') 'NEMO stands in on ', mppsize, ' ranks'
  end subroutine set_domain

end module nemogcm
