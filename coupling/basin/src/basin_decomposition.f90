!> Which rank owns which rectangle of the grid, halo exchange, gathering and scattering.
!>
!> Ranks form a Cartesian grid. A local array runs from 1 - halo to n + halo in both directions;
!> positions outside a closed basin hold zero. Arrays with levels are exchanged as one message.
module basin_decomposition
  use mpi_f08
  use basin_constants, only: dp, halo
  use basin_error, only: error_raise, error_t, number_text
  implicit none
  private
  public :: decomposition_t, decomposition_create, decomposition_exchange
  public :: decomposition_gather, decomposition_gather_all, decomposition_scatter
  public :: decomposition_localise, decomposition_free

  type decomposition_t
    type(MPI_Comm) :: comm             !< Cartesian communicator
    integer :: rank = 0
    integer :: size = 1
    integer :: nx = 0                  !< global size along i
    integer :: ny = 0                  !< global size along j
    integer :: ni = 0                  !< owned cells along i
    integer :: nj = 0                  !< owned cells along j
    integer :: first_i = 1             !< global index of the first owned cell along i
    integer :: first_j = 1             !< global index of the first owned cell along j
    integer :: west = MPI_PROC_NULL
    integer :: east = MPI_PROC_NULL
    integer :: south = MPI_PROC_NULL
    integer :: north = MPI_PROC_NULL
    logical :: cyclic = .false.
    integer, allocatable :: rectangles(:, :) !< (first_i, first_j, ni, nj) of every rank
    integer, allocatable :: counts(:)        !< owned cells of every rank
    integer, allocatable :: offsets(:)       !< position of each rank's piece in a gathered array
    real(dp), allocatable :: send(:, :)      !< buffers of the exchange, one column per side
    real(dp), allocatable :: receive(:, :)
  end type decomposition_t

contains

  !> Distribute nx x ny cells over a communicator. Collective.
  !>
  !> ranks_i and ranks_j may be 0: then the process grid with the smallest perimeter is taken.
  subroutine decomposition_create(this, comm, nx, ny, max_levels, ranks_i, ranks_j, cyclic, error)
    type(decomposition_t), intent(out) :: this
    type(MPI_Comm), intent(in) :: comm
    integer, intent(in) :: nx
    integer, intent(in) :: ny
    integer, intent(in) :: max_levels  !< levels of the largest exchange
    integer, intent(in) :: ranks_i
    integer, intent(in) :: ranks_j
    logical, intent(in) :: cyclic
    type(error_t), intent(inout) :: error
    integer :: shape_ji(2), place_ji(2), mine(4), longest, r

    call MPI_Comm_size(comm, this%size)
    call choose_process_grid(this%size, nx, ny, ranks_i, ranks_j, shape_ji, error)
    if (error%raised) return
    call MPI_Cart_create(comm, 2, shape_ji, [.false., cyclic], .false., this%comm)
    call MPI_Comm_rank(this%comm, this%rank)
    call MPI_Cart_coords(this%comm, this%rank, 2, place_ji)
    call MPI_Cart_shift(this%comm, 0, 1, this%south, this%north)
    call MPI_Cart_shift(this%comm, 1, 1, this%west, this%east)
    this%nx = nx
    this%ny = ny
    this%cyclic = cyclic
    call piece(nx, shape_ji(2), place_ji(2), this%first_i, this%ni)
    call piece(ny, shape_ji(1), place_ji(1), this%first_j, this%nj)

    allocate(this%rectangles(4, 0:this%size - 1))
    mine = [this%first_i, this%first_j, this%ni, this%nj]
    call MPI_Allgather(mine, 4, MPI_INTEGER, this%rectangles, 4, MPI_INTEGER, this%comm)
    this%counts = this%rectangles(3, :) * this%rectangles(4, :)
    this%offsets = [(sum(this%counts(1:r)), r = 0, this%size - 1)]
    longest = max(this%ni, this%nj) + 2 * halo
    allocate(this%send(longest * halo * max_levels, 2), source=0.0_dp)
    allocate(this%receive(longest * halo * max_levels, 2), source=0.0_dp)
  end subroutine decomposition_create

  !> Give the communicator back. Collective.
  subroutine decomposition_free(this)
    type(decomposition_t), intent(inout) :: this
    if (allocated(this%rectangles)) then
      call MPI_Comm_free(this%comm)
      deallocate(this%rectangles)
    end if
  end subroutine decomposition_free

  !> Process grid (rows, columns) for a number of ranks.
  subroutine choose_process_grid(size, nx, ny, ranks_i, ranks_j, shape_ji, error)
    integer, intent(in) :: size
    integer, intent(in) :: nx
    integer, intent(in) :: ny
    integer, intent(in) :: ranks_i
    integer, intent(in) :: ranks_j
    integer, intent(out) :: shape_ji(2)
    type(error_t), intent(inout) :: error
    integer :: columns, best

    shape_ji = [1, size]
    best = huge(best)
    do columns = 1, size
      if (mod(size, columns) /= 0) cycle
      if (ranks_i > 0 .and. columns /= ranks_i) cycle
      if (ranks_j > 0 .and. size / columns /= ranks_j) cycle
      if (nx / columns < halo .or. ny / (size / columns) < halo) cycle
      if (ny * columns + nx * (size / columns) >= best) cycle
      best = ny * columns + nx * (size / columns)
      shape_ji = [size / columns, columns]
    end do
    if (best < huge(best)) return
    call error_raise(error, 'Process grid nn_ranks_i x nn_ranks_j = '//number_text(ranks_i)//' x '// &
                     number_text(ranks_j)//' does not fit '//number_text(size)//' ranks and '// &
                     number_text(nx)//' x '//number_text(ny)//' cells with at least '// &
                     number_text(halo)//' per rank: change it or use 0 x 0 and fewer ranks.')
  end subroutine choose_process_grid

  !> Piece number `place` (from 0) of n cells cut into `pieces` nearly equal ones.
  pure subroutine piece(n, pieces, place, first, length)
    integer, intent(in) :: n
    integer, intent(in) :: pieces
    integer, intent(in) :: place
    integer, intent(out) :: first
    integer, intent(out) :: length
    first = (n * place) / pieces + 1
    length = (n * (place + 1)) / pieces + 1 - first
  end subroutine piece

  !> Fill the halo of nk levels from the neighbours: first along i, then along j with the corners.
  !> Collective among neighbours.
  subroutine decomposition_exchange(this, nk, field)
    type(decomposition_t), intent(inout) :: this
    integer, intent(in) :: nk
    real(dp), intent(inout) :: field(1 - halo:this%ni + halo, 1 - halo:this%nj + halo, nk)
    integer :: n

    associate (ni => this%ni, nj => this%nj, send => this%send, receive => this%receive)
      if (this%west /= MPI_PROC_NULL .or. this%east /= MPI_PROC_NULL) then
        n = halo * nj * nk
        call pack_box(field, ni, nj, nk, 1, halo, 1, nj, send(:, 1))
        call pack_box(field, ni, nj, nk, ni - halo + 1, ni, 1, nj, send(:, 2))
        call swap(this, n, this%west, this%east)
        if (this%west /= MPI_PROC_NULL) &
          call unpack_box(field, ni, nj, nk, 1 - halo, 0, 1, nj, receive(:, 1))
        if (this%east /= MPI_PROC_NULL) &
          call unpack_box(field, ni, nj, nk, ni + 1, ni + halo, 1, nj, receive(:, 2))
      end if
      if (this%south /= MPI_PROC_NULL .or. this%north /= MPI_PROC_NULL) then
        n = halo * (ni + 2 * halo) * nk
        call pack_box(field, ni, nj, nk, 1 - halo, ni + halo, 1, halo, send(:, 1))
        call pack_box(field, ni, nj, nk, 1 - halo, ni + halo, nj - halo + 1, nj, send(:, 2))
        call swap(this, n, this%south, this%north)
        if (this%south /= MPI_PROC_NULL) &
          call unpack_box(field, ni, nj, nk, 1 - halo, ni + halo, 1 - halo, 0, receive(:, 1))
        if (this%north /= MPI_PROC_NULL) &
          call unpack_box(field, ni, nj, nk, 1 - halo, ni + halo, nj + 1, nj + halo, receive(:, 2))
      end if
    end associate
  end subroutine decomposition_exchange

  !> Send both buffers away and receive the neighbours'. Tags tell the sides apart where one rank
  !> is the neighbour on both.
  subroutine swap(this, n, before, after)
    type(decomposition_t), intent(inout) :: this
    integer, intent(in) :: n
    integer, intent(in) :: before
    integer, intent(in) :: after

    if (before == this%rank) then
      this%receive(1:n, 1) = this%send(1:n, 2)
      this%receive(1:n, 2) = this%send(1:n, 1)
      return
    end if
    call MPI_Sendrecv(this%send(:, 2), n, MPI_DOUBLE_PRECISION, after, 1, &
                      this%receive(:, 1), n, MPI_DOUBLE_PRECISION, before, 1, &
                      this%comm, MPI_STATUS_IGNORE)
    call MPI_Sendrecv(this%send(:, 1), n, MPI_DOUBLE_PRECISION, before, 2, &
                      this%receive(:, 2), n, MPI_DOUBLE_PRECISION, after, 2, &
                      this%comm, MPI_STATUS_IGNORE)
  end subroutine swap

  subroutine pack_box(field, ni, nj, nk, i1, i2, j1, j2, buffer)
    integer, intent(in) :: ni, nj, nk, i1, i2, j1, j2
    real(dp), intent(in) :: field(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    real(dp), intent(inout) :: buffer(i2 - i1 + 1, j2 - j1 + 1, nk)
    buffer = field(i1:i2, j1:j2, :)
  end subroutine pack_box

  subroutine unpack_box(field, ni, nj, nk, i1, i2, j1, j2, buffer)
    integer, intent(in) :: ni, nj, nk, i1, i2, j1, j2
    real(dp), intent(inout) :: field(1 - halo:ni + halo, 1 - halo:nj + halo, nk)
    real(dp), intent(in) :: buffer(i2 - i1 + 1, j2 - j1 + 1, nk)
    field(i1:i2, j1:j2, :) = buffer
  end subroutine unpack_box

  !> Local copy, halo included, of a global array that every rank holds.
  !>
  !> Outside a closed basin the nearest cell is taken (`clamp`, for lengths) or zero.
  subroutine decomposition_localise(this, global, clamp, local)
    type(decomposition_t), intent(in) :: this
    real(dp), intent(in) :: global(this%nx, this%ny)
    logical, intent(in) :: clamp
    real(dp), intent(out) :: local(1 - halo:this%ni + halo, 1 - halo:this%nj + halo)
    integer :: i, j, ii, jj

    do j = 1 - halo, this%nj + halo
      do i = 1 - halo, this%ni + halo
        ii = this%first_i + i - 1
        jj = this%first_j + j - 1
        if (this%cyclic) ii = modulo(ii - 1, this%nx) + 1
        local(i, j) = 0.0_dp
        if (clamp .or. (ii >= 1 .and. ii <= this%nx .and. jj >= 1 .and. jj <= this%ny)) &
          local(i, j) = global(min(max(ii, 1), this%nx), min(max(jj, 1), this%ny))
      end do
    end do
  end subroutine decomposition_localise

  !> Bring the owned cells of a 2-D array together on every rank. Collective.
  subroutine decomposition_gather_all(this, owned, global)
    type(decomposition_t), intent(in) :: this
    real(dp), intent(in) :: owned(this%ni, this%nj)
    real(dp), intent(out) :: global(this%nx, this%ny)
    real(dp) :: pieces(this%nx * this%ny)

    if (this%size == 1) then
      global = owned
      return
    end if
    call MPI_Allgatherv(owned, this%ni * this%nj, MPI_DOUBLE_PRECISION, pieces, this%counts, &
                        this%offsets, MPI_DOUBLE_PRECISION, this%comm)
    call assemble(this, pieces, global)
  end subroutine decomposition_gather_all

  !> Bring nk levels together on rank 0; elsewhere `global` is left alone. Collective.
  subroutine decomposition_gather(this, nk, field, global)
    type(decomposition_t), intent(in) :: this
    integer, intent(in) :: nk
    real(dp), intent(in) :: field(1 - halo:this%ni + halo, 1 - halo:this%nj + halo, nk)
    real(dp), intent(inout) :: global(:, :, :)   !< (nx, ny, nk) on rank 0
    real(dp) :: pieces(this%nx * this%ny), owned(this%ni, this%nj)
    integer :: k

    do k = 1, nk
      owned = field(1:this%ni, 1:this%nj, k)
      call MPI_Gatherv(owned, this%ni * this%nj, MPI_DOUBLE_PRECISION, pieces, this%counts, &
                       this%offsets, MPI_DOUBLE_PRECISION, 0, this%comm)
      if (this%rank == 0) call assemble(this, pieces, global(:, :, k))
    end do
  end subroutine decomposition_gather

  !> Hand nk levels from rank 0 to the owners; the halo is not filled. Collective.
  subroutine decomposition_scatter(this, nk, global, field)
    type(decomposition_t), intent(in) :: this
    integer, intent(in) :: nk
    real(dp), intent(in) :: global(:, :, :)      !< (nx, ny, nk) on rank 0
    real(dp), intent(inout) :: field(1 - halo:this%ni + halo, 1 - halo:this%nj + halo, nk)
    real(dp) :: level(this%nx, this%ny)
    integer :: k

    do k = 1, nk
      if (this%rank == 0) level = global(:, :, k)
      call MPI_Bcast(level, size(level), MPI_DOUBLE_PRECISION, 0, this%comm)
      field(1:this%ni, 1:this%nj, k) = level(this%first_i:this%first_i + this%ni - 1, &
                                             this%first_j:this%first_j + this%nj - 1)
    end do
  end subroutine decomposition_scatter

  !> Put the pieces of all ranks in their places.
  subroutine assemble(this, pieces, global)
    type(decomposition_t), intent(in) :: this
    real(dp), intent(in) :: pieces(:)
    real(dp), intent(out) :: global(this%nx, this%ny)
    integer :: r

    do r = 0, this%size - 1
      associate (box => this%rectangles(:, r), start => this%offsets(r + 1))
        global(box(1):box(1) + box(3) - 1, box(2):box(2) + box(4) - 1) = &
          reshape(pieces(start + 1:start + this%counts(r + 1)), [box(3), box(4)])
      end associate
    end do
  end subroutine assemble
end module basin_decomposition
