MODULE lib_mpp
   !!======================================================================
   !!                       ***  MODULE  lib_mpp  ***
   !! NEMO's lib_mpp, with Halocline in mpp_start
   !!======================================================================
   USE nemo_lib_mpp, nemo_mpp_start => mpp_start
   USE halocline_nemo_start, ONLY : hal_start

   IMPLICIT NONE
   PUBLIC
   PRIVATE   nemo_mpp_start, hal_start

CONTAINS

   SUBROUTINE mpp_start( localComm )
      !!----------------------------------------------------------------------
      !!                  ***  routine mpp_start  ***
      !!
      !! ** Purpose :   get the communicator of NEMO's ranks
      !!----------------------------------------------------------------------
      INTEGER, OPTIONAL, INTENT(in) ::   localComm
      !
      INTEGER ::   icomm
      !!----------------------------------------------------------------------
      IF( hal_start( icomm, localComm ) ) THEN   ;   CALL nemo_mpp_start( icomm )
      ELSE                                       ;   CALL nemo_mpp_start( localComm )
      ENDIF
      !
   END SUBROUTINE mpp_start

   !!======================================================================
END MODULE lib_mpp
