!> Halo exchange: every local position holds the index of the global cell it stands for, gathering
!> puts it back. Arguments: ranks along i and j, cyclic (1) or closed (0).
program test_halo
  use mpi_f08
  use basin_constants, only: dp, halo
  use basin_decomposition, only: decomposition_create, decomposition_exchange, &
    decomposition_gather, decomposition_gather_all, decomposition_localise, decomposition_scatter, &
    decomposition_t
  use basin_error, only: error_t
  use test_support, only: expect, report
  implicit none
  integer, parameter :: nx = 17, ny = 23, nk = 3
  type(decomposition_t) :: parts
  type(error_t) :: error
  real(dp), allocatable :: field(:, :, :), wanted(:, :, :), global(:, :, :), plane(:, :)
  character(len=8) :: text
  integer :: arguments(3), n, i, j, k

  call MPI_Init()
  do n = 1, 3
    call get_command_argument(n, text)
    read(text, *) arguments(n)
  end do
  call decomposition_create(parts, MPI_COMM_WORLD, nx, ny, nk, arguments(1), arguments(2), &
                            arguments(3) == 1, error)
  call expect(.not. error%raised, 'the process grid fits')
  allocate(global(nx, ny, nk), plane(nx, ny))
  allocate(field(1 - halo:parts%ni + halo, 1 - halo:parts%nj + halo, nk), source=0.0_dp)
  allocate(wanted, source=field)
  do k = 1, nk
    global(:, :, k) = reshape([((real(i + 100 * j + 10000 * k, dp), i = 1, nx), j = 1, ny)], [nx, ny])
    call decomposition_localise(parts, global(:, :, k), .false., wanted(:, :, k))
  end do
  call decomposition_scatter(parts, nk, global, field)
  call expect(all(field(1:parts%ni, 1:parts%nj, :) == wanted(1:parts%ni, 1:parts%nj, :)), &
              'scattering gives each owner its cells')
  call decomposition_exchange(parts, nk, field)
  call expect(all(field == wanted), 'the halo, corners included, holds the neighbours'' cells')
  global = 0.0_dp
  call decomposition_gather(parts, nk, field, global)
  if (parts%rank == 0) call expect(all(global == expected()), 'gathering restores the global field')
  call decomposition_gather_all(parts, field(1:parts%ni, 1:parts%nj, 2), plane)
  wanted = expected_slice()
  call expect(all(plane == wanted(:, :, 1)), 'gathering a plane on every rank restores it')
  call MPI_Finalize()
  call report()

contains

  function expected() result(values)
    real(dp) :: values(nx, ny, nk)
    values = reshape([(((real(i + 100 * j + 10000 * k, dp), i = 1, nx), j = 1, ny), k = 1, nk)], &
                     [nx, ny, nk])
  end function expected

  function expected_slice() result(values)
    real(dp) :: values(nx, ny, 1)
    real(dp) :: all_levels(nx, ny, nk)
    all_levels = expected()
    values = all_levels(:, :, 2:2)
  end function expected_slice
end program test_halo
