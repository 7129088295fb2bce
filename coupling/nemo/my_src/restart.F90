MODULE restart
   !!======================================================================
   !!                       ***  MODULE  restart  ***
   !! NEMO's restart, with the generated sea level of Halocline
   !!======================================================================
   USE nemo_restart, nemo_rst_read_ssh => rst_read_ssh
   USE halocline_nemo, ONLY : hal_istate_ssh

   IMPLICIT NONE
   PUBLIC
   PRIVATE   nemo_rst_read_ssh, hal_istate_ssh

CONTAINS

   SUBROUTINE rst_read_ssh( Kbb, Kmm, Kaa )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE rst_read_ssh  ***
      !!
      !! ** Purpose :   sea level at the start
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   Kbb, Kmm, Kaa   ! ocean time level indices
      !!----------------------------------------------------------------------
      CALL nemo_rst_read_ssh( Kbb, Kmm, Kaa )
      CALL hal_istate_ssh   ( Kbb, Kmm, Kaa )
      !
   END SUBROUTINE rst_read_ssh

   !!======================================================================
END MODULE restart
