MODULE usrdef_istate
   !!======================================================================
   !!                     ***  MODULE  usrdef_istate  ***
   !! Initial state of the configuration, or the generated one of Halocline
   !!======================================================================
   USE nemo_usrdef_istate, ONLY : nemo_istate => usr_def_istate, usr_def_istate_ssh
   USE halocline_nemo    , ONLY : hal_istate
   USE par_oce        ! ocean space and time domain

   IMPLICIT NONE
   PRIVATE

   PUBLIC   usr_def_istate       ! called in istate.F90
   PUBLIC   usr_def_istate_ssh   ! called in restart.F90

CONTAINS

   SUBROUTINE usr_def_istate( pdept, ptmask, pts, pu, pv )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE usr_def_istate  ***
      !!
      !! ** Purpose :   temperature, salinity and velocities at the start
      !!----------------------------------------------------------------------
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(in   ) ::   pdept   ! depth of t-point               [m]
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(in   ) ::   ptmask  ! t-point ocean mask
      REAL(wp), DIMENSION(jpi,jpj,jpk,jpts), INTENT(inout) ::   pts     ! T & S fields      [Celsius ; g/kg]
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(inout) ::   pu      ! i-component of the velocity  [m/s]
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(inout) ::   pv      ! j-component of the velocity  [m/s]
      !!----------------------------------------------------------------------
      CALL nemo_istate( pdept, ptmask, pts, pu, pv )
      CALL hal_istate ( pts, pu, pv )
      !
   END SUBROUTINE usr_def_istate

   !!======================================================================
END MODULE usrdef_istate
