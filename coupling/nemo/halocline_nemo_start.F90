MODULE halocline_nemo_start
   !!======================================================================
   !!                  ***  MODULE  halocline_nemo_start  ***
   !! Halocline in NEMO : settings, and the communicator on which NEMO runs
   !!======================================================================
   !! It uses no module of NEMO, so that lib_mpp can use it. NON_INTRINSIC tells
   !! FCM that it need not look for the source of that module.
   !!----------------------------------------------------------------------

   !!----------------------------------------------------------------------
   !!   hal_start    : read namelist_halocline, give NEMO its communicator, start Halocline
   !!----------------------------------------------------------------------
   USE, INTRINSIC :: iso_fortran_env, ONLY : error_unit
   USE, NON_INTRINSIC :: halocline, ONLY : halocline_init, halocline_split
   USE mpi, ONLY : MPI_COMM_WORLD

   IMPLICIT NONE
   PRIVATE

   PUBLIC   hal_start   ! called instead of mpp_start, before it

   INTEGER, PARAMETER ::   jpfld = 16   ! most fields that can be registered

   LOGICAL            , PUBLIC ::   l_hal = .FALSE.   !: whether Halocline has something to do

   !                               !!* namelist namhalocline *
   CHARACTER(len=256) , PUBLIC ::   cn_config   = 'halocline.yaml'   !: configuration of Halocline
   LOGICAL            , PUBLIC ::   ln_generate = .FALSE.            !: start from a generated state
   LOGICAL            , PUBLIC ::   ln_observe  = .TRUE.             !: send the trajectory, hear if it is physical
   CHARACTER(len=32)  , PUBLIC ::   cn_fields(jpfld) = ''            !: fields of both

   CHARACTER(len=*), PARAMETER ::   clnml = 'namelist_halocline'
   CHARACTER(len=*), PARAMETER ::   cl5(5) = [ CHARACTER(len=11) ::   &
      &                             'temperature', 'salinity', 'velocity_u', 'velocity_v', 'sea_level' ]

CONTAINS

   LOGICAL FUNCTION hal_start( kcomm, localComm )
      !!----------------------------------------------------------------------
      !!                  ***  FUNCTION hal_start  ***
      !!
      !! ** Purpose :   Give NEMO the communicator of its own ranks, so that
      !!                emulator ranks can run beside it, and start Halocline:
      !!                a wrong configuration is told before NEMO begins
      !!
      !! ** Method  :   Without namelist_halocline nothing is done: NEMO runs
      !!                as if Halocline were not linked.
      !!                A communicator that XIOS or OASIS made is left as it is:
      !!                then Halocline works in NEMO's own processes only.
      !!
      !! ** Action  : - kcomm   communicator for mpp_start, if hal_start is true
      !!----------------------------------------------------------------------
      INTEGER          , INTENT(  out) ::   kcomm
      INTEGER, OPTIONAL, INTENT(in   ) ::   localComm   ! that of NEMO's call of mpp_start
      !
      LOGICAL ::   ll_init
      INTEGER ::   ierr
      !!----------------------------------------------------------------------
      hal_start = .FALSE.
      kcomm = MPI_COMM_WORLD
      INQUIRE( FILE = clnml, EXIST = l_hal )
      IF( .NOT. l_hal )   RETURN
      !
      CALL mpi_initialized( ll_init, ierr )
      IF( .NOT. ll_init )   CALL mpi_init( ierr )
      CALL hal_nam
      l_hal = ln_generate .OR. ln_observe
      IF( .NOT. l_hal )   RETURN
      !
      IF( PRESENT( localComm ) ) THEN   ;   kcomm = localComm
      ELSE                              ;   CALL halocline_split( MPI_COMM_WORLD, 'nemo', kcomm )
      ENDIF
      CALL halocline_init( kcomm, cn_config )
      hal_start = .TRUE.
      !
   END FUNCTION hal_start


   SUBROUTINE hal_nam
      !!----------------------------------------------------------------------
      !!                  ***  ROUTINE hal_nam  ***
      !!
      !! ** Purpose :   Read namelist_halocline, on every rank
      !!----------------------------------------------------------------------
      CHARACTER(len=256) ::   clmsg
      INTEGER            ::   inum, ios, jf, ierr
      !!
      NAMELIST/namhalocline/ cn_config, ln_generate, ln_observe, cn_fields
      !!----------------------------------------------------------------------
      OPEN( NEWUNIT = inum, FILE = clnml, STATUS = 'OLD', ACTION = 'READ', IOSTAT = ios, IOMSG = clmsg )
      IF( ios == 0 )   READ( inum, NML = namhalocline, IOSTAT = ios, IOMSG = clmsg )
      IF( ios == 0 ) THEN
         CLOSE( inum )
         IF( ALL( cn_fields == '' ) )   cn_fields(1:SIZE(cl5)) = cl5
         DO jf = 1, jpfld
            IF( cn_fields(jf) /= '' .AND. ALL( cl5 /= cn_fields(jf) ) ) THEN
               ios = 1
               clmsg = "cn_fields has '"//TRIM(cn_fields(jf))//"', expected temperature, salinity, velocity_u, "//   &
                  &    "velocity_v or sea_level."
            ENDIF
         END DO
      ENDIF
      IF( ios /= 0 ) THEN
         WRITE(error_unit,'(a)') clnml//' cannot be used: '//TRIM(clmsg)
         CALL mpi_abort( MPI_COMM_WORLD, 81, ierr )
      ENDIF
      !
   END SUBROUTINE hal_nam

   !!======================================================================
END MODULE halocline_nemo_start
