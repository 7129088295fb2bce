MODULE halocline_nemo
   !!======================================================================
   !!                    ***  MODULE  halocline_nemo  ***
   !! Halocline in NEMO : start from a generated state, send the trajectory
   !!                     and hear at every step whether it is physical
   !!======================================================================

   !!----------------------------------------------------------------------
   !!   hal_istate_ssh : generate a state, set the sea level
   !!   hal_istate     : set temperature, salinity and velocities
   !!   hal_observe    : send the state at the end of a time step
   !!   hal_end_step   : say farewell after the last time step
   !!   hal_attach     : tell the emulator where the fields are
   !!   hal_stop_soon  : let the run end with NEMO's next possible restart
   !!----------------------------------------------------------------------
   USE, INTRINSIC :: iso_fortran_env, ONLY : real64
   USE, NON_INTRINSIC :: halocline
   USE halocline_nemo_start
   !
   USE par_oce        ! ocean space and time domain
   USE oce            ! ocean dynamics and tracers
   USE dom_oce        ! ocean space and time domain
   USE sbc_oce , ONLY : nn_fsbc
   USE in_out_manager ! I/O manager
   USE lib_mpp        ! distributed memory computing library
   USE lbclnk         ! ocean lateral boundary conditions

   IMPLICIT NONE
   PRIVATE

   PUBLIC   hal_istate_ssh   ! called after rst_read_ssh
   PUBLIC   hal_istate       ! called after usr_def_istate
   PUBLIC   hal_observe      ! called before stp_ctl
   PUBLIC   hal_end_step     ! called after stp_ctl

   LOGICAL ::   l_ready   = .FALSE.   ! model and emulator have compared what they expect of each other
   LOGICAL ::   l_waiting = .FALSE.   ! a generated state waits for hal_istate
   LOGICAL ::   l_ended   = .FALSE.   ! model and emulator have parted
   TYPE(halocline_verdict_t) ::   s_stop   ! verdict that ends the run, once its action is HALOCLINE_STOP

   REAL(wp), ALLOCATABLE, TARGET, DIMENSION(:,:,:) ::   gen_t, gen_s, gen_u, gen_v   ! generated state, inner points
   REAL(wp), ALLOCATABLE, TARGET, DIMENSION(:,:)   ::   gen_ssh

CONTAINS

   SUBROUTINE hal_istate_ssh( Kbb, Kmm, Kaa )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_istate_ssh  ***
      !!
      !! ** Purpose :   Generate a state and set the sea level
      !!
      !! ** Method  :   NEMO sets the sea level before the other fields: these
      !!                are kept until hal_istate takes them.
      !!                NEMO's own restart comes first (ln_rstart = T).
      !!
      !! ** Action  : - ssh   at Kbb, Kmm, Kaa, as rst_read_ssh sets it
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   Kbb, Kmm, Kaa   ! ocean time level indices
      !
      TYPE(halocline_verdict_t) ::   s_verdict
      INTEGER                   ::   istat
      !!----------------------------------------------------------------------
      IF( .NOT. ( l_hal .AND. ln_generate ) )   RETURN
      IF( ln_rstart ) THEN
         CALL ctl_warn( 'hal_istate_ssh : ln_rstart = .true., so the restart file is read and no state is generated' )
         IF( .NOT. ln_observe )   CALL hal_part
         RETURN
      ENDIF
      !
      ALLOCATE( gen_t(Nis0:Nie0,Njs0:Nje0,jpk), gen_s(Nis0:Nie0,Njs0:Nje0,jpk), gen_ssh(Nis0:Nie0,Njs0:Nje0),   &
         &      gen_u(Nis0:Nie0,Njs0:Nje0,jpk), gen_v(Nis0:Nie0,Njs0:Nje0,jpk) )
      gen_t = 0._wp   ;   gen_s = 0._wp   ;   gen_u = 0._wp   ;   gen_v = 0._wp   ;   gen_ssh = 0._wp
      CALL hal_attach( ndate0, gen_t, gen_s, gen_u, gen_v, gen_ssh )
      CALL halocline_generate( s_verdict, istat )
      CALL hal_check( istat )
      CALL hal_tell( s_verdict )
      !
      IF( s_verdict%action == HALOCLINE_GO_ON ) THEN
         l_waiting = .TRUE.
         IF( hal_has( 'sea_level' ) ) THEN
            ssh(:,:,Kbb) = 0._wp
            ssh(Nis0:Nie0,Njs0:Nje0,Kbb) = gen_ssh(:,:)
            CALL lbc_lnk( 'halocline_nemo', ssh(:,:,Kbb), 'T', 1._wp )   ! rst_read_ssh fills no halo
            ssh(:,:,Kmm) = ssh(:,:,Kbb)
            ssh(:,:,Kaa) = ssh(:,:,Kbb)
         ENDIF
      ELSE
         DEALLOCATE( gen_t, gen_s, gen_u, gen_v, gen_ssh )
         IF(lwp) WRITE(numout,*) 'hal_istate_ssh : the generated state is not used, NEMO keeps its own'
      ENDIF
      IF( s_verdict%action == HALOCLINE_STOP ) THEN
         s_stop = s_verdict
         CALL hal_part           ! there will be no time step
      ELSEIF( .NOT. ln_observe ) THEN
         CALL hal_part           ! Halocline is not needed any more
      ENDIF
      !
   END SUBROUTINE hal_istate_ssh


   SUBROUTINE hal_istate( pts, pu, pv )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_istate  ***
      !!
      !! ** Purpose :   Set temperature, salinity and velocities of the generated
      !!                state; istate_init fills halos and the other time levels
      !!----------------------------------------------------------------------
      REAL(wp), DIMENSION(jpi,jpj,jpk,jpts), INTENT(inout) ::   pts   ! T & S fields      [Celsius ; g/kg]
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(inout) ::   pu    ! i-component of the velocity  [m/s]
      REAL(wp), DIMENSION(jpi,jpj,jpk)     , INTENT(inout) ::   pv    ! j-component of the velocity  [m/s]
      !!----------------------------------------------------------------------
      IF( .NOT. l_waiting )   RETURN
      !
      IF( hal_has( 'temperature' ) )   CALL hal_set( pts(:,:,:,jp_tem), gen_t )
      IF( hal_has( 'salinity'    ) )   CALL hal_set( pts(:,:,:,jp_sal), gen_s )
      IF( hal_has( 'velocity_u'  ) )   CALL hal_set( pu, gen_u )
      IF( hal_has( 'velocity_v'  ) )   CALL hal_set( pv, gen_v )
      DEALLOCATE( gen_t, gen_s, gen_u, gen_v, gen_ssh )
      l_waiting = .FALSE.
      IF(lwp) WRITE(numout,*) 'hal_istate : NEMO starts from a generated state'
      !
   END SUBROUTINE hal_istate


   SUBROUTINE hal_observe( kt, Kmm )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_observe  ***
      !!
      !! ** Purpose :   Send the state at the end of a time step
      !!
      !! ** Method  :   Kmm is the time level that stp_ctl checks: the new state
      !!                of both time-stepping schemes. Its addresses change from
      !!                step to step. Nothing of NEMO's state is changed.
      !!
      !! ** Action  : - nitend, nitrst   where the verdict asks to stop
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   kt    ! ocean time-step index
      INTEGER, INTENT(in) ::   Kmm   ! ocean time level index
      !
      TYPE(halocline_verdict_t) ::   s_verdict
      INTEGER                   ::   istat
      !!----------------------------------------------------------------------
      IF( .NOT. ( l_hal .AND. ln_observe ) .OR. l_ended .OR. s_stop%action == HALOCLINE_STOP )   RETURN
      !
      CALL hal_attach( ndastp, ts (Nis0:Nie0,Njs0:Nje0,:,jp_tem,Kmm), ts (Nis0:Nie0,Njs0:Nje0,:,jp_sal,Kmm),   &
         &                     uu (Nis0:Nie0,Njs0:Nje0,:       ,Kmm), vv (Nis0:Nie0,Njs0:Nje0,:       ,Kmm),   &
         &                     ssh(Nis0:Nie0,Njs0:Nje0         ,Kmm) )
      CALL halocline_observe( kt, s_verdict, istat )
      CALL hal_check( istat )
      CALL hal_tell( s_verdict )
      IF( s_verdict%action == HALOCLINE_STOP ) THEN
         s_stop = s_verdict
         CALL hal_stop_soon( kt )
      ENDIF
      !
   END SUBROUTINE hal_observe


   SUBROUTINE hal_end_step( kt )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_end_step  ***
      !!
      !! ** Purpose :   Say farewell after the last time step, whatever made it
      !!                the last
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   kt   ! ocean time-step index
      !!----------------------------------------------------------------------
      IF( l_waiting ) THEN
         l_waiting = .FALSE.
         CALL ctl_stop( 'hal_end_step : the generated temperature and salinity were not used, but those of a file:',   &
            &           'set ln_tsd_init and ln_uvd_init to .false., or ln_generate' )
      ENDIF
      IF( l_hal .AND. .NOT. l_ended .AND. ( kt >= nitend .OR. nstop > 0 ) )   CALL hal_part
      !
   END SUBROUTINE hal_end_step


   SUBROUTINE hal_attach( kdate, pt, ps, pu, pv, pssh )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_attach  ***
      !!
      !! ** Purpose :   Tell where the fields are. The first call compares grid,
      !!                fields, calendar and time step with the emulator's
      !!
      !! ** Method  :   Inner points only; arrays are used where they are.
      !!----------------------------------------------------------------------
      INTEGER                            , INTENT(in   ) ::   kdate    ! date of the start            [yyyymmdd]
      REAL(wp), TARGET, DIMENSION(:,:,:) , INTENT(inout) ::   pt, ps   ! T & S fields      [Celsius ; g/kg]
      REAL(wp), TARGET, DIMENSION(:,:,:) , INTENT(inout) ::   pu, pv   ! velocities                        [m/s]
      REAL(wp), TARGET, DIMENSION(:,:)   , INTENT(inout) ::   pssh     ! sea level                           [m]
      !
      CHARACTER(len=16) ::   clcal
      INTEGER           ::   istat
      !!----------------------------------------------------------------------
      IF( .NOT. l_ready ) THEN
         CALL halocline_grid( [ Ni0glo, Nj0glo, jpkglo ], [ mig(Nis0,0), mjg(Njs0,0) ],   &
            &                 REAL( tmask(Nis0:Nie0,Njs0:Nje0,:), real64 ), status = istat )
         CALL hal_check( istat )
      ENDIF
      !
      istat = HALOCLINE_SUCCESS
      IF( hal_has( 'temperature' ) )   CALL halocline_field( 'temperature', pt  , 'T', 'degC', status = istat )
      CALL hal_check( istat )
      IF( hal_has( 'salinity'    ) )   CALL halocline_field( 'salinity'   , ps  , 'T', '1e-3', status = istat )
      CALL hal_check( istat )
      IF( hal_has( 'velocity_u'  ) )   CALL halocline_field( 'velocity_u' , pu  , 'U', 'm/s' , status = istat )
      CALL hal_check( istat )
      IF( hal_has( 'velocity_v'  ) )   CALL halocline_field( 'velocity_v' , pv  , 'V', 'm/s' , status = istat )
      CALL hal_check( istat )
      IF( hal_has( 'sea_level'   ) )   CALL halocline_field( 'sea_level'  , pssh, 'T', 'm'   , status = istat )
      CALL hal_check( istat )
      !
      IF( l_ready )   RETURN
      l_ready = .TRUE.
      SELECT CASE( nleapy )
      CASE( 0  )     ;   clcal = 'noleap'
      CASE( 1  )     ;   clcal = 'standard'
      CASE( 30 )     ;   clcal = '360_day'
      CASE DEFAULT   ;   WRITE(clcal,'(a,i0)') 'nn_leapy = ', nleapy   ! no calendar that the emulator knows: it says so
      END SELECT
      CALL halocline_ready( clcal, REAL( rn_Dt, real64 ), nit000 - 1, kdate, istat )
      CALL hal_check( istat )
      !
   END SUBROUTINE hal_attach


   SUBROUTINE hal_part
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_part  ***
      !!
      !! ** Purpose :   End together with the emulator
      !!
      !! ** Method  :   A run that was asked to stop ends as NEMO ends after an
      !!                error: message in ocean.output, exit code 123.
      !!----------------------------------------------------------------------
      TYPE(halocline_verdict_t) ::   s_verdict
      INTEGER                   ::   istat
      !!----------------------------------------------------------------------
      l_ended = .TRUE.
      CALL halocline_finalize( s_verdict, istat )
      CALL hal_check( istat )
      CALL hal_tell( s_verdict )
      !
      IF( s_stop%action /= HALOCLINE_STOP )   s_stop = s_verdict
      IF( s_stop%action == HALOCLINE_STOP )   &
         &   CALL ctl_stop( 'Halocline asks to stop, for the state at time step '//hal_step( s_stop )//':',   &
         &                  halocline_reason( s_stop ) )
      !
   END SUBROUTINE hal_part


   SUBROUTINE hal_stop_soon( kt )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_stop_soon  ***
      !!
      !! ** Purpose :   Let the run end with the next restart that NEMO can write
      !!
      !! ** Method  :   NEMO opens restarts ahead of time (rst_opn: one time step,
      !!                rst_ice_opn: 2 * nn_fsbc - 1) and writes them at multiples
      !!                of nn_fsbc. One that is open already becomes the last.
      !!
      !! ** Action  : - nitend, nitrst
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   kt   ! ocean time-step index
      !
      INTEGER ::   iend
      !!----------------------------------------------------------------------
      iend = nn_fsbc * ( ( kt + 3*nn_fsbc - 1 ) / nn_fsbc )
      IF( nitrst > kt .AND. nitrst < kt + 2*nn_fsbc )   iend = nitrst
      IF( iend < nitend ) THEN
         nitend = iend
         nitrst = iend
      ENDIF
      IF(lwp) WRITE(numout,*) 'hal_stop_soon : Halocline asks to stop, the last time step will be ', nitend
      !
   END SUBROUTINE hal_stop_soon


   SUBROUTINE hal_set( pfield, pinner )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_set  ***
      !!
      !! ** Purpose :   Set a field on inner points, and its halo to 0
      !!----------------------------------------------------------------------
      REAL(wp), DIMENSION(jpi,jpj,jpk)                , INTENT(  out) ::   pfield
      REAL(wp), DIMENSION(Nis0:Nie0,Njs0:Nje0,jpk)    , INTENT(in   ) ::   pinner
      !!----------------------------------------------------------------------
      pfield(:,:,:) = 0._wp
      pfield(Nis0:Nie0,Njs0:Nje0,:) = pinner(:,:,:)
      !
   END SUBROUTINE hal_set


   SUBROUTINE hal_check( kstat )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_check  ***
      !!
      !! ** Purpose :   End the job after a failure of Halocline: message in
      !!                ocean.output and on standard error, exit code 80 + kstat
      !!----------------------------------------------------------------------
      INTEGER, INTENT(in) ::   kstat   ! status of a call
      !!----------------------------------------------------------------------
      IF( kstat == HALOCLINE_SUCCESS )   RETURN
      CALL ctl_stop( 'Halocline failed ('//halocline_status_name( kstat )//'):', halocline_message() )
      CALL halocline_abort( kstat )
      !
   END SUBROUTINE hal_check


   SUBROUTINE hal_tell( sd_verdict )
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_tell  ***
      !!
      !! ** Purpose :   Write a verdict that is not ok into ocean.output
      !!----------------------------------------------------------------------
      TYPE(halocline_verdict_t), INTENT(in) ::   sd_verdict
      !!----------------------------------------------------------------------
      IF( .NOT. lwp )   RETURN
      SELECT CASE( sd_verdict%level )
      CASE( HALOCLINE_SUSPECT )
         WRITE(numout,*) 'Halocline: suspect at time step '//hal_step( sd_verdict )//': '//   &
            &            halocline_reason( sd_verdict )
      CASE( HALOCLINE_REJECT )
         WRITE(numout,*) 'Halocline: reject at time step '//hal_step( sd_verdict )//': '//   &
            &            halocline_reason( sd_verdict )
      END SELECT
      !
   END SUBROUTINE hal_tell


   LOGICAL FUNCTION hal_has( cdname )
      !!----------------------------------------------------------------------
      !!                  ***  FUNCTION hal_has  ***
      !!
      !! ** Purpose :   Whether the namelist names this field
      !!----------------------------------------------------------------------
      CHARACTER(len=*), INTENT(in) ::   cdname
      !!----------------------------------------------------------------------
      hal_has = ANY( cn_fields == cdname )
      !
   END FUNCTION hal_has


   FUNCTION hal_step( sd_verdict ) RESULT( cdstep )
      !!----------------------------------------------------------------------
      !!                  ***  FUNCTION hal_step  ***
      !!
      !! ** Purpose :   Time step of a verdict as text
      !!----------------------------------------------------------------------
      TYPE(halocline_verdict_t), INTENT(in) ::   sd_verdict
      CHARACTER(len=:), ALLOCATABLE         ::   cdstep
      CHARACTER(len=20)                     ::   cl
      !!----------------------------------------------------------------------
      WRITE(cl,'(i0)') sd_verdict%step
      cdstep = TRIM(cl)
      !
   END FUNCTION hal_step

   !!======================================================================
END MODULE halocline_nemo
