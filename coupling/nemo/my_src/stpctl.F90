MODULE stpctl
   !!======================================================================
   !!                       ***  MODULE  stpctl  ***
   !! NEMO's control of the time stepping, and that of Halocline
   !!======================================================================
   USE nemo_stpctl   , ONLY : nemo_stp_ctl => stp_ctl
   USE halocline_nemo, ONLY : hal_observe, hal_end_step

   IMPLICIT NONE
   PRIVATE

   PUBLIC   stp_ctl   ! called at the end of each time step

CONTAINS

   SUBROUTINE stp_ctl( kt, Kmm )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE stp_ctl  ***
      !!
      !! ** Purpose :   control the run
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   kt    ! ocean time-step index
      INTEGER, INTENT(in) ::   Kmm   ! ocean time level index
      !!----------------------------------------------------------------------
      CALL hal_observe ( kt, Kmm )
      CALL nemo_stp_ctl( kt, Kmm )
      CALL hal_end_step( kt )
      !
   END SUBROUTINE stp_ctl

   !!======================================================================
END MODULE stpctl
