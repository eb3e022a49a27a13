# SPDX-License-Identifier: MIT
# Installs the library, builds the hypervisor of docs/hypervisor.md against it from an empty folder,
# and runs it where it can run.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

# Says why it goes no further; ctest shows the test as skipped then (CMakeLists.txt).
macro(end_here reason)
  message(STATUS "not run: ${reason}")
  return()
endmacro()

cmake_host_system_information(RESULT processor QUERY OS_PLATFORM)
if(NOT processor STREQUAL "x86_64")
  end_here("the guest is one for x86, this is ${processor}")
endif()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/stage)
configure_and_build(${SOURCE}/docs/examples/kvm-hypervisor ${WORK}/example
  -DCMAKE_PREFIX_PATH=${WORK}/stage)

execute_process(COMMAND test -r /dev/kvm -a -w /dev/kvm RESULT_VARIABLE no_kvm)
if(NOT no_kvm EQUAL 0)
  end_here("built, but /dev/kvm is not there or not for this user")
endif()

# Each run checks itself; see the program's last line.
set(hypervisor ${WORK}/example/kvm-hypervisor --memory 256MiB)
set(up_and_down --target 128MiB@0s,32MiB@0s,192MiB@0s,0MiB@0s)
foreach(mode pfn chunk)
  run(${hypervisor} ${up_and_down} --mode ${mode})
  run(${hypervisor} ${up_and_down} --mode ${mode} --migrate)
  run(${hypervisor} ${up_and_down} --mode ${mode} --migrate --exits)
endforeach()
run(${hypervisor} ${up_and_down} --discard per-page --busy)
