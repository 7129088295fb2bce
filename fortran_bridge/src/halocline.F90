!> Halocline for Fortran models: the verbs of halocline.h, with arrays and strings of Fortran.
!>
!> call halocline_init(MPI_COMM_WORLD, 'halocline.yaml')
!> call halocline_grid([ni, nj, nk], [i0, j0], tmask, halo=1)
!> call halocline_field('temperature', t, point='T', unit='degC', halo=1)
!> call halocline_ready('noleap', time_step, step, date)
!> call halocline_generate(verdict)
!> call halocline_observe(step, verdict)                 ! every time step
!> call halocline_finalize(verdict)
!>
!> Every verb has an optional `status`: without it, a failure tells its sentence and ends the whole job with a non-zero
!> code. Arrays are used where they lie: they must have the attribute `target` (or be pointers), and stay allocated.
module halocline
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_int, c_int64_t, c_intptr_t, &
    c_loc, c_null_char, c_null_ptr, c_ptr, c_size_t
  use, intrinsic :: iso_fortran_env, only: int32, int64, real32, real64
  use mpi_f08, only: MPI_Comm
  implicit none
  private
  ! types
  public :: halocline_verdict_t
  ! verbs
  public :: halocline_split, halocline_init, halocline_grid, halocline_field, halocline_ready
  public :: halocline_generate, halocline_observe, halocline_finalize, halocline_abort
  ! queries
  public :: halocline_message, halocline_reason, halocline_status_name, halocline_version
  ! status of a call
  integer, parameter, public :: HALOCLINE_SUCCESS = 0, HALOCLINE_USAGE = 1, HALOCLINE_START = 2, &
    HALOCLINE_EXCEPTION = 3, HALOCLINE_CONTRACT = 4, HALOCLINE_PEER = 5, HALOCLINE_DEADLINE = 6
  ! level of a verdict
  integer, parameter, public :: HALOCLINE_OK = 0, HALOCLINE_SUSPECT = 1, HALOCLINE_REJECT = 2, HALOCLINE_UNJUDGED = 3
  ! what the user's policy asks the model to do
  integer, parameter, public :: HALOCLINE_GO_ON = 0, HALOCLINE_STOP = 1, HALOCLINE_FALL_BACK = 2

  !> Verdict on one time step, or on the generated state.
  type, bind(c) :: halocline_verdict_t
    integer(c_int) :: level = HALOCLINE_UNJUDGED
    integer(c_int) :: action = HALOCLINE_GO_ON
    integer(c_int64_t) :: step = -1                  !< time step that was judged, -1: none yet
    character(c_char) :: reason(512) = c_null_char   !< as text: halocline_reason(verdict)
  end type halocline_verdict_t

  interface halocline_split
    module procedure split_handle, split_comm
  end interface
  interface halocline_init
    module procedure init_handle, init_comm
  end interface
  interface halocline_field
    module procedure field_single_2d, field_single_3d, field_double_2d, field_double_3d
  end interface
  interface halocline_ready
    module procedure ready_int32, ready_int64
  end interface
  interface halocline_observe
    module procedure observe_int32, observe_int64
  end interface

  integer :: cells(2) = 0   ! of this rank's rectangle, along i and j

  ! the C functions of halocline.h
  interface
    integer(c_int) function c_split(world, name, model) bind(c, name='halocline_split')
      import :: c_char, c_int
      integer(c_int), value :: world
      character(c_char), intent(in) :: name(*)
      integer(c_int), intent(out) :: model
    end function c_split

    integer(c_int) function c_init(model, config) bind(c, name='halocline_init')
      import :: c_char, c_int
      integer(c_int), value :: model
      character(c_char), intent(in) :: config(*)
    end function c_init

    integer(c_int) function c_grid(ni, nj, nk, i0, j0, nx, ny, mask, stride) bind(c, name='halocline_grid')
      import :: c_int, c_int64_t, c_ptr
      integer(c_int), value :: ni, nj, nk, i0, j0, nx, ny
      type(c_ptr), value :: mask
      integer(c_int64_t), intent(in) :: stride(3)
    end function c_grid

    integer(c_int) function c_field(name, point, unit, bytes, levels, array, stride) bind(c, name='halocline_field')
      import :: c_char, c_int, c_int64_t, c_ptr
      character(c_char), intent(in) :: name(*), point(*), unit(*)
      integer(c_int), value :: bytes, levels
      type(c_ptr), value :: array
      integer(c_int64_t), intent(in) :: stride(3)
    end function c_field

    integer(c_int) function c_ready(calendar, time_step, step, date) bind(c, name='halocline_ready')
      import :: c_char, c_double, c_int, c_int64_t
      character(c_char), intent(in) :: calendar(*)
      real(c_double), value :: time_step
      integer(c_int64_t), value :: step
      integer(c_int), value :: date
    end function c_ready

    integer(c_int) function c_generate(verdict) bind(c, name='halocline_generate')
      import :: c_int, halocline_verdict_t
      type(halocline_verdict_t), intent(inout), optional :: verdict
    end function c_generate

    integer(c_int) function c_observe(step, verdict) bind(c, name='halocline_observe')
      import :: c_int, c_int64_t, halocline_verdict_t
      integer(c_int64_t), value :: step
      type(halocline_verdict_t), intent(inout), optional :: verdict
    end function c_observe

    integer(c_int) function c_finalize(verdict) bind(c, name='halocline_finalize')
      import :: c_int, halocline_verdict_t
      type(halocline_verdict_t), intent(inout), optional :: verdict
    end function c_finalize

    subroutine c_abort(status) bind(c, name='halocline_abort')
      import :: c_int
      integer(c_int), value :: status
    end subroutine c_abort

    integer(c_int) function c_refuse(status, sentence) bind(c, name='halocline_refuse')
      import :: c_char, c_int
      integer(c_int), value :: status
      character(c_char), intent(in) :: sentence(*)
    end function c_refuse

    type(c_ptr) function c_message() bind(c, name='halocline_message')
      import :: c_ptr
    end function c_message

    type(c_ptr) function c_status_name(status) bind(c, name='halocline_status_name')
      import :: c_int, c_ptr
      integer(c_int), value :: status
    end function c_status_name

    type(c_ptr) function c_version() bind(c, name='halocline_version')
      import :: c_ptr
    end function c_version

    integer(c_size_t) function c_strlen(text) bind(c, name='strlen')
      import :: c_ptr, c_size_t
      type(c_ptr), value :: text
    end function c_strlen
  end interface

contains

  !> Divide the ranks of a communicator by program, before the model uses it. Collective over `world`.
  subroutine split_handle(world, name, model, status)
    integer, intent(in) :: world                !< communicator, usually MPI_COMM_WORLD
    character(len=*), intent(in) :: name        !< of this program
    integer, intent(out) :: model               !< communicator of the ranks with this name
    integer, intent(out), optional :: status
    integer(c_int) :: part

    part = int(world, c_int)
    call answer(c_split(int(world, c_int), trim(name)//c_null_char, part), status)
    model = part
  end subroutine split_handle

  subroutine split_comm(world, name, model, status)
    type(MPI_Comm), intent(in) :: world
    character(len=*), intent(in) :: name
    type(MPI_Comm), intent(out) :: model
    integer, intent(out), optional :: status

    call split_handle(world%MPI_VAL, name, model%MPI_VAL, status)
  end subroutine split_comm

  !> Attach to the model's communicator and read the configuration. Collective over `comm`.
  subroutine init_handle(comm, config, status)
    integer, intent(in) :: comm
    character(len=*), intent(in) :: config      !< path of the YAML file
    integer, intent(out), optional :: status

    call answer(c_init(int(comm, c_int), trim(config)//c_null_char), status)
  end subroutine init_handle

  subroutine init_comm(comm, config, status)
    type(MPI_Comm), intent(in) :: comm
    character(len=*), intent(in) :: config
    integer, intent(out), optional :: status

    call init_handle(comm%MPI_VAL, config, status)
  end subroutine init_comm

  !> Declare the global grid and this rank's rectangle of it. Local.
  subroutine halocline_grid(global, first, mask, halo, status)
    integer, intent(in) :: global(3)                    !< cells along i, j, k
    integer, intent(in) :: first(2)                     !< global indices of the rectangle's first cell, from 1
    real(real64), intent(in), target :: mask(:, :, :)   !< 1 in the sea, 0 on land at T points
    integer, intent(in), optional :: halo               !< rings of cells around the rectangle; none if absent
    integer, intent(out), optional :: status
    type(c_ptr) :: corner(4)
    integer :: n(3), i

    n = shape(mask)
    i = ring(halo) + 1
    corner = c_null_ptr
    cells = 0
    if (has_cells(n, i)) then
      cells = n(:2) - 2*(i - 1)
      corner = [c_loc(mask(i, i, 1)), c_loc(mask(min(i + 1, n(1)), i, 1)), c_loc(mask(i, min(i + 1, n(2)), 1)), &
        c_loc(mask(i, i, min(2, n(3))))]
    end if
    if (c_associated(corner(1)) .and. n(3) /= global(3)) then
      call refuse('The mask has '//number(n(3))//' levels, expected those of the grid, '//number(global(3))// &
        ': give the extents in the order i, j, k.', status)
      return
    end if
    call answer(c_grid(global(1), global(2), global(3), first(1) - 1, first(2) - 1, cells(1), cells(2), corner(1), &
      strides(corner, 8)), status)
  end subroutine halocline_grid

  !> Register a field: an array (i, j, k), or (i, j) of one level, used where it lies. Local.
  subroutine field_double_3d(name, array, point, unit, halo, status)
    character(len=*), intent(in) :: name                   !< as in Halocline's table of variables
    real(real64), intent(inout), target :: array(:, :, :)
    character(len=*), intent(in) :: point                  !< 'T', 'U' or 'V'
    character(len=*), intent(in) :: unit                   !< such as 'degC'
    integer, intent(in), optional :: halo                  !< rings of cells around the rectangle; none if absent
    integer, intent(out), optional :: status
    type(c_ptr) :: corner(4)
    integer :: n(3), i

    n = shape(array)
    i = ring(halo) + 1
    corner = c_null_ptr
    if (has_cells(n, i)) corner = [c_loc(array(i, i, 1)), c_loc(array(min(i + 1, n(1)), i, 1)), &
      c_loc(array(i, min(i + 1, n(2)), 1)), c_loc(array(i, i, min(2, n(3))))]
    call register(name, point, unit, 8, n, i - 1, corner, status)
  end subroutine field_double_3d

  subroutine field_single_3d(name, array, point, unit, halo, status)
    character(len=*), intent(in) :: name, point, unit
    real(real32), intent(inout), target :: array(:, :, :)
    integer, intent(in), optional :: halo
    integer, intent(out), optional :: status
    type(c_ptr) :: corner(4)
    integer :: n(3), i

    n = shape(array)
    i = ring(halo) + 1
    corner = c_null_ptr
    if (has_cells(n, i)) corner = [c_loc(array(i, i, 1)), c_loc(array(min(i + 1, n(1)), i, 1)), &
      c_loc(array(i, min(i + 1, n(2)), 1)), c_loc(array(i, i, min(2, n(3))))]
    call register(name, point, unit, 4, n, i - 1, corner, status)
  end subroutine field_single_3d

  subroutine field_double_2d(name, array, point, unit, halo, status)
    character(len=*), intent(in) :: name, point, unit
    real(real64), intent(inout), target :: array(:, :)
    integer, intent(in), optional :: halo
    integer, intent(out), optional :: status
    type(c_ptr) :: corner(4)
    integer :: n(3), i

    n = [shape(array), 1]
    i = ring(halo) + 1
    corner = c_null_ptr
    if (has_cells(n, i)) corner = [c_loc(array(i, i)), c_loc(array(min(i + 1, n(1)), i)), &
      c_loc(array(i, min(i + 1, n(2)))), c_loc(array(i, i))]
    call register(name, point, unit, 8, n, i - 1, corner, status)
  end subroutine field_double_2d

  subroutine field_single_2d(name, array, point, unit, halo, status)
    character(len=*), intent(in) :: name, point, unit
    real(real32), intent(inout), target :: array(:, :)
    integer, intent(in), optional :: halo
    integer, intent(out), optional :: status
    type(c_ptr) :: corner(4)
    integer :: n(3), i

    n = [shape(array), 1]
    i = ring(halo) + 1
    corner = c_null_ptr
    if (has_cells(n, i)) corner = [c_loc(array(i, i)), c_loc(array(min(i + 1, n(1)), i)), &
      c_loc(array(i, min(i + 1, n(2)))), c_loc(array(i, i))]
    call register(name, point, unit, 4, n, i - 1, corner, status)
  end subroutine field_single_2d

  !> Compare what was declared with the emulator. Collective.
  subroutine ready_int64(calendar, time_step, step, date, status)
    character(len=*), intent(in) :: calendar   !< '360_day', 'noleap' or 'standard'
    real(real64), intent(in) :: time_step      !< s
    integer(int64), intent(in) :: step         !< at which the run starts
    integer, intent(in) :: date                !< at which the run starts, yyyymmdd
    integer, intent(out), optional :: status

    call answer(c_ready(trim(calendar)//c_null_char, time_step, step, int(date, c_int)), status)
  end subroutine ready_int64

  subroutine ready_int32(calendar, time_step, step, date, status)
    character(len=*), intent(in) :: calendar
    real(real64), intent(in) :: time_step
    integer(int32), intent(in) :: step
    integer, intent(in) :: date
    integer, intent(out), optional :: status

    call ready_int64(calendar, time_step, int(step, int64), date, status)
  end subroutine ready_int32

  !> Fill the registered fields with a generated state, zero on land, halos untouched. Collective.
  subroutine halocline_generate(verdict, status)
    type(halocline_verdict_t), intent(inout), optional :: verdict   !< on the state itself
    integer, intent(out), optional :: status

    call answer(c_generate(verdict), status)
  end subroutine halocline_generate

  !> Hand over the registered fields at the end of a step. Collective.
  subroutine observe_int64(step, verdict, status)
    integer(int64), intent(in) :: step
    type(halocline_verdict_t), intent(inout), optional :: verdict   !< the newest; absent only if the policy is to go on
    integer, intent(out), optional :: status

    call answer(c_observe(step, verdict), status)
  end subroutine observe_int64

  subroutine observe_int32(step, verdict, status)
    integer(int32), intent(in) :: step
    type(halocline_verdict_t), intent(inout), optional :: verdict
    integer, intent(out), optional :: status

    call observe_int64(int(step, int64), verdict, status)
  end subroutine observe_int32

  !> End together. Collective.
  subroutine halocline_finalize(verdict, status)
    type(halocline_verdict_t), intent(inout), optional :: verdict   !< the worst of those not told yet
    integer, intent(out), optional :: status

    call answer(c_finalize(verdict), status)
  end subroutine halocline_finalize

  !> Tell the message and end the whole job with exit code 80 + status. Does not return.
  subroutine halocline_abort(status)
    integer, intent(in) :: status
    call c_abort(int(status, c_int))
  end subroutine halocline_abort

  !> Sentence of the last failure on this rank, '' if none.
  function halocline_message() result(text)
    character(len=:), allocatable :: text
    text = text_at(c_message())
  end function halocline_message

  !> Sentence of a verdict.
  pure function halocline_reason(verdict) result(text)
    type(halocline_verdict_t), intent(in) :: verdict
    character(len=:), allocatable :: text
    integer :: length, i

    length = findloc(verdict%reason, c_null_char, dim=1) - 1
    allocate (character(len=max(length, 0)) :: text)
    do i = 1, len(text)
      text(i:i) = verdict%reason(i)
    end do
  end function halocline_reason

  !> Name of a status, such as 'deadline'.
  function halocline_status_name(status) result(text)
    integer, intent(in) :: status
    character(len=:), allocatable :: text
    text = text_at(c_status_name(int(status, c_int)))
  end function halocline_status_name

  !> Version of the library, such as '0.1.0'.
  function halocline_version() result(text)
    character(len=:), allocatable :: text
    text = text_at(c_version())
  end function halocline_version

  !> Hand a status to the model, or end the job for it.
  subroutine answer(code, status)
    integer(c_int), intent(in) :: code
    integer, intent(out), optional :: status

    if (present(status)) then
      status = code
    else if (code /= HALOCLINE_SUCCESS) then
      call c_abort(code)
    end if
  end subroutine answer

  !> Fail before the C library is called.
  subroutine refuse(sentence, status)
    character(len=*), intent(in) :: sentence
    integer, intent(out), optional :: status
    call answer(c_refuse(int(HALOCLINE_USAGE, c_int), sentence//c_null_char), status)
  end subroutine refuse

  !> Common part of halocline_field: the extents must be those of the rectangle, axis by axis.
  subroutine register(name, point, unit, bytes, n, halo, corner, status)
    character(len=*), intent(in) :: name, point, unit
    integer, intent(in) :: bytes
    integer, intent(in) :: n(3)              !< extents of the array
    integer, intent(in) :: halo
    type(c_ptr), intent(in) :: corner(4)     !< the first cell, and its next along i, j, k
    integer, intent(out), optional :: status

    if (all(cells > 0) .and. any(n(:2) - 2*halo /= cells)) then
      call refuse('Field '//trim(name)//' has '//number(n(1) - 2*halo)//' x '//number(n(2) - 2*halo)// &
        ' cells (i, j) without its halo of '//number(halo)//', expected '//number(cells(1))//' x '//number(cells(2))// &
        ' as the mask of halocline_grid: give the extents in the order i, j, k, and the halo of this array.', status)
      return
    end if
    call answer(c_field(trim(name)//c_null_char, trim(point)//c_null_char, trim(unit)//c_null_char, bytes, n(3), &
      corner(1), strides(corner, bytes)), status)
  end subroutine register

  !> Whether an array of extents n has cells from index i on, with i - 1 rings around them.
  pure logical function has_cells(n, i)
    integer, intent(in) :: n(3), i
    has_cells = all(n(:2) > 2*(i - 1)) .and. n(3) > 0
  end function has_cells

  pure integer function ring(halo)
    integer, intent(in), optional :: halo
    ring = 0
    if (present(halo)) ring = max(halo, 0)
  end function ring

  !> Numbers between neighbours along i, j, k, from the addresses of cells: no array is copied, sections are welcome.
  pure function strides(corner, bytes)
    type(c_ptr), intent(in) :: corner(4)
    integer, intent(in) :: bytes
    integer(c_int64_t) :: strides(3)
    integer(c_intptr_t) :: place(4)

    place = transfer(corner, place)
    strides = (place(2:) - place(1))/bytes
  end function strides

  pure function number(value) result(text)
    integer, intent(in) :: value
    character(len=:), allocatable :: text
    character(len=12) :: digits

    write (digits, '(i0)') value
    text = trim(digits)
  end function number

  function text_at(address) result(text)
    type(c_ptr), intent(in) :: address
    character(len=:), allocatable :: text
    character(c_char), pointer :: letters(:)
    integer :: i

    call c_f_pointer(address, letters, [c_strlen(address)])
    allocate (character(len=size(letters)) :: text)
    do i = 1, len(text)
      text(i:i) = letters(i)
    end do
  end function text_at

end module halocline
