# SPDX-License-Identifier: MIT
# Builds the library as a folder of another project; FetchContent does the same after a download.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

# Unoptimized, as it compiles all of the library once more to ask whether that works.
configure_and_build(${SOURCE}/tests/package/add_subdirectory ${WORK}
  -DVBALLOON_SOURCE=${SOURCE} -DCMAKE_BUILD_TYPE=Debug)
run(${WORK}/hypervisor)
run(${WORK}/simulator)
