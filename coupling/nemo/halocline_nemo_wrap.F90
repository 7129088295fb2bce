!!======================================================================
!!                     ***  halocline_nemo_wrap  ***
!! Halocline in NEMO : the linker puts these routines in the place of four
!!                     of NEMO's (option --wrap); each calls the original
!!======================================================================
!! WRAP_* and REAL_* are the linker's names of both, such as
!! __wrap___stpctl_MOD_stp_ctl and __real___stpctl_MOD_stp_ctl with gfortran;
!! link_nemo reads them from NEMO's object files. Arguments are scalars and
!! arrays of explicit shape, which Fortran passes to C, and C to Fortran, by
!! address, as it does among its own routines.
!!----------------------------------------------------------------------

SUBROUTINE hal_mpp_start( localComm ) BIND( C, NAME = WRAP_MPP_START )
   !!----------------------------------------------------------------------
   !! in the place of lib_mpp : mpp_start
   !!----------------------------------------------------------------------
   USE, INTRINSIC :: iso_c_binding, ONLY : c_int
   USE halocline_nemo_start       , ONLY : hal_start
   IMPLICIT NONE
   INTEGER(c_int), OPTIONAL, INTENT(in) ::   localComm
   INTEGER(c_int) ::   icomm
   INTERFACE
      SUBROUTINE nemo_mpp_start( localComm ) BIND( C, NAME = REAL_MPP_START )
         IMPORT ::   c_int
         INTEGER(c_int), OPTIONAL, INTENT(in) ::   localComm
      END SUBROUTINE nemo_mpp_start
   END INTERFACE
   !!----------------------------------------------------------------------
   IF( hal_start( icomm, localComm ) ) THEN   ;   CALL nemo_mpp_start( icomm )
   ELSE                                       ;   CALL nemo_mpp_start( localComm )
   ENDIF
END SUBROUTINE hal_mpp_start


SUBROUTINE hal_rst_read_ssh( Kbb, Kmm, Kaa ) BIND( C, NAME = WRAP_RST_READ_SSH )
   !!----------------------------------------------------------------------
   !! in the place of restart : rst_read_ssh
   !!----------------------------------------------------------------------
   USE, INTRINSIC :: iso_c_binding, ONLY : c_int
   USE halocline_nemo             , ONLY : hal_istate_ssh
   IMPLICIT NONE
   INTEGER(c_int), INTENT(in) ::   Kbb, Kmm, Kaa
   INTERFACE
      SUBROUTINE nemo_rst_read_ssh( Kbb, Kmm, Kaa ) BIND( C, NAME = REAL_RST_READ_SSH )
         IMPORT ::   c_int
         INTEGER(c_int), INTENT(in) ::   Kbb, Kmm, Kaa
      END SUBROUTINE nemo_rst_read_ssh
   END INTERFACE
   !!----------------------------------------------------------------------
   CALL nemo_rst_read_ssh( Kbb, Kmm, Kaa )
   CALL hal_istate_ssh   ( Kbb, Kmm, Kaa )
END SUBROUTINE hal_rst_read_ssh


SUBROUTINE hal_usr_def_istate( pdept, ptmask, pts, pu, pv ) BIND( C, NAME = WRAP_USR_DEF_ISTATE )
   !!----------------------------------------------------------------------
   !! in the place of usrdef_istate : usr_def_istate
   !!----------------------------------------------------------------------
   USE par_oce
   USE halocline_nemo, ONLY : hal_istate
   IMPLICIT NONE
   REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(in   ) ::   pdept, ptmask
   REAL(wp), DIMENSION(jpi,jpj,jpk,jpts), INTENT(inout) ::   pts
   REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(inout) ::   pu, pv
   INTERFACE
      SUBROUTINE nemo_usr_def_istate( pdept, ptmask, pts, pu, pv ) BIND( C, NAME = REAL_USR_DEF_ISTATE )
         IMPORT ::   wp
         REAL(wp), DIMENSION(*), INTENT(in   ) ::   pdept, ptmask
         REAL(wp), DIMENSION(*), INTENT(inout) ::   pts, pu, pv
      END SUBROUTINE nemo_usr_def_istate
   END INTERFACE
   !!----------------------------------------------------------------------
   CALL nemo_usr_def_istate( pdept, ptmask, pts, pu, pv )
   CALL hal_istate         ( pts, pu, pv )
END SUBROUTINE hal_usr_def_istate


SUBROUTINE hal_stp_ctl( kt, Kmm ) BIND( C, NAME = WRAP_STP_CTL )
   !!----------------------------------------------------------------------
   !! in the place of stpctl : stp_ctl
   !!----------------------------------------------------------------------
   USE, INTRINSIC :: iso_c_binding, ONLY : c_int
   USE halocline_nemo             , ONLY : hal_observe, hal_end_step
   IMPLICIT NONE
   INTEGER(c_int), INTENT(in) ::   kt, Kmm
   INTERFACE
      SUBROUTINE nemo_stp_ctl( kt, Kmm ) BIND( C, NAME = REAL_STP_CTL )
         IMPORT ::   c_int
         INTEGER(c_int), INTENT(in) ::   kt, Kmm
      END SUBROUTINE nemo_stp_ctl
   END INTERFACE
   !!----------------------------------------------------------------------
   CALL hal_observe ( kt, Kmm )
   CALL nemo_stp_ctl( kt, Kmm )
   CALL hal_end_step( kt )
END SUBROUTINE hal_stp_ctl
