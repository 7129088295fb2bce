# Adds Halocline to the build of neXtSIM_DG: cmake -DCMAKE_PROJECT_nextsim_dg_INCLUDE=.../coupling/nextsim/halocline.cmake ...
# The model's own files stay as they are, but for the lines of module.cfg in its DiagnosticOutputModule.
if(CMAKE_VERSION VERSION_LESS 3.19)
  message(FATAL_ERROR "CMake is ${CMAKE_VERSION}, expected 3.19 or newer for halocline.cmake.")
endif()
find_package(MPI REQUIRED COMPONENTS C CXX)
find_package(Halocline REQUIRED) # in CMAKE_PREFIX_PATH: the environment in which Halocline is installed
set(HALOCLINE_COUPLING "${CMAKE_CURRENT_LIST_DIR}")

# Called at the end of the model's CMakeLists.txt, when its library exists.
function(halocline_add_to_nextsim)
  target_sources(nextsimlib PRIVATE "${HALOCLINE_COUPLING}/HaloclineOutput.cpp")
  target_include_directories(nextsimlib PUBLIC "${HALOCLINE_COUPLING}")
  target_include_directories(nextsimlib PRIVATE "${CMAKE_SOURCE_DIR}/core/src/modules/DiagnosticOutputModule")
  target_compile_definitions(nextsimlib PUBLIC OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  target_link_libraries(nextsimlib PUBLIC Halocline::halocline MPI::MPI_CXX)
endfunction()
cmake_language(DEFER CALL halocline_add_to_nextsim)
