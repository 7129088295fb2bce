!> Of the stand-in: steps between calls of the surface module.
module sbc_oce
  implicit none
  integer, public :: nn_fsbc = 1
end module sbc_oce
