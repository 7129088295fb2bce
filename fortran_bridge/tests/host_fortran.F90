!> A Fortran model for tests: arrays with halos of different widths, single precision, one level, a section of an array.
!> Every rank has a strip of rows. What `generate` wrote is compared with the rule of standin_bridge.py, cell by cell.
!>   host_fortran CONFIG [swapped | halo | mask]
program host_fortran
  use, intrinsic :: iso_fortran_env, only: error_unit, int64, real32, real64
  use mpi_f08
  use halocline
  implicit none
  integer, parameter :: ni = 10, nj = 8, nk = 3
  real(real64), allocatable, target :: mask(:, :, :), t(:, :, :), box(:, :, :)
  real(real32), allocatable, target :: s(:, :, :), ssh(:, :)
  real(real64), target :: uice(ni, nj)
  type(halocline_verdict_t) :: verdict
  type(MPI_Comm) :: model
  integer :: rank, ranks, ny, j0, status
  character(256) :: config, word

  call get_command_argument(1, config)
  call get_command_argument(2, word)
  call MPI_Init()
  call halocline_split(MPI_COMM_WORLD, 'fortran host', model)
  call MPI_Comm_rank(model, rank)
  call MPI_Comm_size(model, ranks)
  ny = nj/ranks
  j0 = rank*ny + 1

  allocate (mask(0:ni + 1, 0:ny + 1, nk), t(-1:ni + 2, -1:ny + 2, nk), s(ni, ny, nk), ssh(0:ni + 1, 0:ny + 1))
  allocate (box(2*ni, ny + 5, nk + 2))
  mask = 1
  mask(1, :, :) = 0
  t = -1; s = -1; ssh = -1; box = -1; uice = -1

  call halocline_init(model, config)
  if (word == 'mask') call fails(mask_of_wrong_depth())
  call halocline_grid([ni, nj, nk], [1, j0], mask, halo=1)
  if (word == 'swapped') call fails(swapped())
  if (word == 'halo') call fails(wrong_halo())
  call halocline_field('temperature', t, 'T', 'degC', halo=2)
  call halocline_field('salinity', s, 'T', 'g/kg')
  call halocline_field('ssh', ssh, 'T', 'm', halo=1)
  call halocline_field('section', box(2::2, 3:2 + ny, 2:nk + 1), 'T', '1')
  call halocline_field('uice', uice(:, :ny), 'U', 'm/s')
  call halocline_ready('noleap', 3600._real64, 0, 10101)
  call halocline_generate(verdict)

  call compare('t', t(1:ni, 1:ny, :))
  call compare('s', real(s, real64))
  call compare('ssh', reshape(real(ssh(1:ni, 1:ny), real64), [ni, ny, 1]))
  call compare('section', box(2::2, 3:2 + ny, 2:nk + 1))
  call compare('uice', reshape(uice(:, :ny), [ni, ny, 1]))
  if (count(t < 0) /= size(t) - ni*ny*nk .or. count(box < 0) /= size(box) - ni*ny*nk) error stop 'halo was touched'

  t = 2
  call halocline_observe(1_int64, verdict, status)
  if (status /= HALOCLINE_SUCCESS) call halocline_abort(status)
  if (index(halocline_reason(verdict), 'temperature='//decimal(2*ni*ny*nk)//'.0') /= 1) error stop 'another sum'
  if (verdict%level /= HALOCLINE_OK .or. verdict%action /= HALOCLINE_GO_ON .or. verdict%step /= 1) error stop 'verdict'
  call halocline_observe(2)
  call halocline_finalize()
  print '(a)', 'halocline '//halocline_version()//': all fields as generated'
  call MPI_Finalize()

contains

  subroutine compare(name, field)
    character(len=*), intent(in) :: name
    real(real64), intent(in) :: field(:, :, :)
    real(real64) :: expected
    integer :: i, j, k

    do k = 1, size(field, 3)
      do j = 1, ny
        do i = 1, ni
          expected = merge(0, 10000*(k - 1) + 100*(j + j0 - 2) + i - 1, i == 1)
          if (abs(field(i, j, k) - expected) > 0) then
            write (error_unit, *) name, i, j, k, field(i, j, k), expected
            error stop 'a cell differs'
          end if
        end do
      end do
    end do
  end subroutine compare

  integer function mask_of_wrong_depth() result(status)
    call halocline_grid([ni, nj, nk], [1, j0], mask(:, :, :2), halo=1, status=status)
  end function mask_of_wrong_depth

  integer function swapped() result(status)
    real(real64), allocatable, target :: transposed(:, :, :)
    allocate (transposed(ny, ni, nk), source=0._real64)
    call halocline_field('temperature', transposed, 'T', 'degC', status=status)
  end function swapped

  integer function wrong_halo() result(status)
    call halocline_field('temperature', t, 'T', 'degC', halo=1, status=status)
  end function wrong_halo

  !> A refusal: its sentence is printed, and the job ends with its code.
  subroutine fails(status)
    integer, intent(in) :: status
    print '(a)', halocline_status_name(status)//': '//halocline_message()
    call halocline_abort(status)
  end subroutine fails

  function decimal(value) result(text)
    integer, intent(in) :: value
    character(len=:), allocatable :: text
    character(len=12) :: buffer
    write (buffer, '(i0)') value
    text = trim(buffer)
  end function decimal

end program host_fortran
