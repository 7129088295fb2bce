!> Of the stand-in: restarts are opened one step ahead, as in NEMO, and their file names are all that is written.
module restart
  use par_oce
  use oce
  use in_out_manager
  implicit none
  private
  public :: rst_read_ssh, rst_opn, rst_write
  logical :: is_open = .false.

contains

  subroutine rst_read_ssh(Kbb, Kmm, Kaa)
    integer, intent(in) :: Kbb, Kmm, Kaa
    ssh(:, :, Kbb) = -1
    ssh(:, :, Kmm) = -1
    ssh(:, :, Kaa) = -1
  end subroutine rst_read_ssh

  subroutine rst_opn(kt)
    integer, intent(in) :: kt
    if (kt == nitrst - 1 .or. (kt == nitend .and. .not. is_open)) is_open = nitrst <= nitend
  end subroutine rst_opn

  subroutine rst_write(kt)
    integer, intent(in) :: kt
    if (is_open .and. kt == nitrst .and. lwp) write (numout, '(a, i0)') 'restart at step ', kt
    if (kt == nitrst) is_open = .false.
  end subroutine rst_write

end module restart
