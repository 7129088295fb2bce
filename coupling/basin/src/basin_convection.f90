!> Convective adjustment: columns leave statically stable, heat and salt unchanged to round-off.
!>
!> Levels are taken from the top and joined into mixed blocks. A new level starts a block of its
!> own; as long as the last block is lighter than the one above it, at the depth of the interface
!> between them, the two are mixed. One pass leaves every interface stable or neutral. Waters that
!> need no mixing keep their bits.
module basin_convection
  use basin_constants, only: dp, halo
  use basin_eos, only: eos_density_step
  implicit none
  private
  public :: convection_adjust, convection_column

contains

  !> Adjust all unstable columns of the owned cells.
  subroutine convection_adjust(ni, nj, nk, t, s, ssh, tmask, levels, e3t, gdepw)
    integer, intent(in) :: ni
    integer, intent(in) :: nj
    integer, intent(in) :: nk
    real(dp), intent(inout) :: t(1 - halo:ni + halo, 1 - halo:nj + halo, nk) !< degC
    real(dp), intent(inout) :: s(1 - halo:ni + halo, 1 - halo:nj + halo, nk) !< g/kg
    real(dp), intent(in) :: ssh(1 - halo:ni + halo, 1 - halo:nj + halo)      !< m
    real(dp), intent(in) :: tmask(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    integer, intent(in) :: levels(1 - halo:ni + halo, 1 - halo:nj + halo)    !< wet levels
    real(dp), intent(in) :: e3t(nk)    !< m, thickness at rest
    real(dp), intent(in) :: gdepw(nk)  !< m, depth of the upper face
    real(dp) :: excess(ni)             ! kg/m3, largest density step of a column
    integer :: i, j, k

    do j = 1, nj
      excess = 0.0_dp
      do k = 2, nk
        do i = 1, ni
          excess(i) = max(excess(i), tmask(i, j, k) * eos_density_step( &
            t(i, j, k - 1), s(i, j, k - 1), t(i, j, k), s(i, j, k), gdepw(k)))
        end do
      end do
      do i = 1, ni
        if (excess(i) > 0.0_dp) call adjust_at(i, j)
      end do
    end do

  contains

    subroutine adjust_at(ji, jj)
      integer, intent(in) :: ji
      integer, intent(in) :: jj
      real(dp) :: t_column(nk), s_column(nk), thickness(nk)
      t_column = t(ji, jj, :)
      s_column = s(ji, jj, :)
      thickness = e3t
      thickness(1) = e3t(1) + ssh(ji, jj)
      call convection_column(levels(ji, jj), t_column, s_column, thickness, gdepw)
      t(ji, jj, :) = t_column
      s(ji, jj, :) = s_column
    end subroutine adjust_at
  end subroutine convection_adjust

  !> Adjust one column of n levels.
  pure subroutine convection_column(n, t, s, thickness, gdepw)
    integer, intent(in) :: n
    real(dp), intent(inout) :: t(n)        !< degC
    real(dp), intent(inout) :: s(n)        !< g/kg
    real(dp), intent(in) :: thickness(n)   !< m
    real(dp), intent(in) :: gdepw(n)       !< m, depth of the upper face of each level
    integer :: first(n)                    ! top level of each block
    real(dp) :: depth(n), heat(n), salt(n) ! thickness, content and mean of each block
    real(dp) :: t_block(n), s_block(n)
    integer :: blocks, b, k

    blocks = 0
    do k = 1, n
      blocks = blocks + 1
      first(blocks) = k
      depth(blocks) = thickness(k)
      heat(blocks) = thickness(k) * t(k)
      salt(blocks) = thickness(k) * s(k)
      t_block(blocks) = t(k)
      s_block(blocks) = s(k)
      do while (blocks > 1)
        if (eos_density_step(t_block(blocks - 1), s_block(blocks - 1), t_block(blocks), &
                             s_block(blocks), gdepw(first(blocks))) <= 0.0_dp) exit
        depth(blocks - 1) = depth(blocks - 1) + depth(blocks)
        heat(blocks - 1) = heat(blocks - 1) + heat(blocks)
        salt(blocks - 1) = salt(blocks - 1) + salt(blocks)
        blocks = blocks - 1
        t_block(blocks) = heat(blocks) / depth(blocks)
        s_block(blocks) = salt(blocks) / depth(blocks)
      end do
    end do
    do b = 1, blocks
      k = n
      if (b < blocks) k = first(b + 1) - 1
      t(first(b):k) = t_block(b)
      s(first(b):k) = s_block(b)
    end do
  end subroutine convection_column
end module basin_convection
