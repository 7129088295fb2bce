program nemo
  use nemogcm
  implicit none
  call nemo_gcm
end program nemo
