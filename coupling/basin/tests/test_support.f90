!> Claims of the unit tests: print each, stop with a non-zero code if one does not hold.
module test_support
  use, intrinsic :: iso_fortran_env, only: error_unit, output_unit
  implicit none
  private
  public :: expect, report

  logical, save :: failed = .false.

contains

  !> State a claim.
  subroutine expect(holds, claim)
    logical, intent(in) :: holds
    character(len=*), intent(in) :: claim
    if (holds) then
      write(output_unit, '(a)') 'holds: '//claim
    else
      write(error_unit, '(a)') 'FAILS: '//claim
      failed = .true.
    end if
  end subroutine expect

  !> End the test.
  subroutine report()
    if (failed) error stop 1
  end subroutine report
end module test_support
