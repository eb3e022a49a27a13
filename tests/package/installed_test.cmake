# SPDX-License-Identifier: MIT
# Installs the library in the form FORM (static, shared) and builds the two examples against it,
# by find_package and by pkg-config.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

set(stage ${WORK}/stage)
file(REMOVE_RECURSE ${stage} ${WORK}/find_package ${WORK}/pkg_config)

if(FORM STREQUAL static)
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${stage})
else()
  # With an absolute library folder, as some packagers give it.
  configure_and_build(${SOURCE} ${WORK}/build
    -DBUILD_SHARED_LIBS=ON -DVBALLOON_BUILD_TOOLS=OFF
    -DCMAKE_INSTALL_PREFIX=${stage} -DCMAKE_INSTALL_LIBDIR=${stage}/lib)
  run(${CMAKE_COMMAND} --install ${WORK}/build)
endif()

# ---- by find_package --------------------------------------------------------------------------

configure_and_build(${SOURCE}/tests/package/find_package ${WORK}/find_package
  -DCMAKE_PREFIX_PATH=${stage})
run(${WORK}/find_package/hypervisor)
run(${WORK}/find_package/simulator)

# ---- by pkg-config ----------------------------------------------------------------------------

file(GLOB_RECURSE pc_file ${stage}/vballoon.pc)
cmake_path(GET pc_file PARENT_PATH pc_dir)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
file(MAKE_DIRECTORY ${WORK}/pkg_config)

function(build_by_pkg_config package example)
  execute_process(COMMAND pkg-config --cflags --libs ${package}
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND pkg-config --variable=libdir ${package}
    OUTPUT_VARIABLE libdir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${CXX_FLAGS} ${flags}")
  run(${CXX} -std=c++20 ${SOURCE}/tests/package/${example}.cc -o ${WORK}/pkg_config/${example}
      ${flags} -Wl,-rpath,${libdir})
  run(${WORK}/pkg_config/${example})
endfunction()
build_by_pkg_config(vballoon hypervisor)
build_by_pkg_config(vballoon-sim simulator)

# ---- what the shared libraries export ---------------------------------------------------------

if(FORM STREQUAL static)
  return()
endif()
foreach(library vballoon vballoon_sim)
  execute_process(COMMAND ${NM} -DC --defined-only ${stage}/lib/lib${library}.so
    OUTPUT_VARIABLE symbols COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
  if(NOT symbols)
    message(FATAL_ERROR "lib${library}.so exports nothing")
  endif()
  list(FILTER symbols EXCLUDE REGEX
       "^[0-9a-f]+ [A-Za-z] ((typeinfo|typeinfo name|vtable) for )?vballoon::")
  if(symbols)
    list(JOIN symbols "\n  " symbols)
    message(FATAL_ERROR "lib${library}.so exports what is not vballoon's:\n  ${symbols}")
  endif()
endforeach()
