!> Of the stand-in: the prognostic fields, with halo and three time levels.
module oce
  use par_oce
  implicit none
  public
  real(wp), allocatable, target :: ts(:, :, :, :, :), uu(:, :, :, :), vv(:, :, :, :), ssh(:, :, :)
end module oce
