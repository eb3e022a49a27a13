# SPDX-License-Identifier: MIT
# Builds the library as a folder of another project; FetchContent does the same after a download.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)

configure_and_build(${SOURCE}/tests/package/add_subdirectory ${WORK} -DVBALLOON_SOURCE=${SOURCE})
run(${WORK}/hypervisor)
run(${WORK}/simulator)
