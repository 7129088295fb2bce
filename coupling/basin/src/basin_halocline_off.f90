!> Stands in for the bridge to Halocline where basin is built without it: asking for it is an error.
module basin_halocline
  use mpi_f08, only: MPI_Comm
  use basin_error, only: error_raise, error_t
  use basin_model, only: model_t
  implicit none
  private
  public :: bridge_divide, bridge_start, bridge_observe, bridge_end

contains

  !> All ranks are basin's.
  subroutine bridge_divide(world, comm)
    type(MPI_Comm), intent(in) :: world
    type(MPI_Comm), intent(out) :: comm
    comm = world
  end subroutine bridge_divide

  !> Refuse settings that name a configuration of the bridge.
  subroutine bridge_start(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    call refuse(model, error)
  end subroutine bridge_start

  subroutine bridge_observe(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    call refuse(model, error)
  end subroutine bridge_observe

  subroutine bridge_end(model, error)
    type(model_t), intent(inout), target :: model
    type(error_t), intent(inout) :: error
    call refuse(model, error)
  end subroutine bridge_end

  subroutine refuse(model, error)
    type(model_t), intent(in) :: model
    type(error_t), intent(inout) :: error
    if (model%settings%cn_config == '') return
    call error_raise(error, 'cn_config names '//trim(model%settings%cn_config)//', but this basin was built '// &
                     'without Halocline: build it with HALOCLINE_BRIDGE=ON, or leave cn_config empty.')
  end subroutine refuse
end module basin_halocline
