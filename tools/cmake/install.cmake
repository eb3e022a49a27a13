# SPDX-License-Identifier: MIT
# What `cmake --install` puts in place: libraries, public headers, CMake package, pkg-config files.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vballoon)

install(TARGETS vballoon vballoon_sim EXPORT vballoon-targets FILE_SET HEADERS)
install(EXPORT vballoon-targets NAMESPACE vballoon:: DESTINATION ${package_dir})

configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/vballoon-config.cmake.in ${PROJECT_BINARY_DIR}/vballoon-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 every minor version may break what stands in the headers.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vballoon-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vballoon-config.cmake
              ${PROJECT_BINARY_DIR}/vballoon-config-version.cmake
  DESTINATION ${package_dir})

# The pkg-config files find their prefix from where they lie, so that an installed tree can be
# moved. That needs a library folder inside the prefix; packagers may give an absolute one.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${up}")
endif()
# Appending an absolute path replaces what was there, which is what an absolute folder asks for.
cmake_path(APPEND pc_libdir "\${prefix}" ${CMAKE_INSTALL_LIBDIR})
cmake_path(APPEND pc_includedir "\${prefix}" ${CMAKE_INSTALL_INCLUDEDIR})

# The static form hands its private needs on to who links it; tl::expected, which the headers need
# in both forms, has no pkg-config file.
if(NOT BUILD_SHARED_LIBS)
  set(pc_requires_fmt "fmt >= 9")
  set(pc_static_libs " -pthread")
  set(pc_static_cflags " -DVBALLOON_STATIC_DEFINE")
endif()

function(install_pkg_config pc_name pc_description pc_library pc_requires)
  configure_file(${PROJECT_SOURCE_DIR}/tools/cmake/pkg-config.pc.in
                 ${PROJECT_BINARY_DIR}/${pc_name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${pc_name}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()
install_pkg_config(vballoon "${PROJECT_DESCRIPTION}" vballoon "${pc_requires_fmt}")
install_pkg_config(vballoon-sim "A simulated guest for the vballoon library" vballoon_sim
                   "vballoon = ${PROJECT_VERSION}")
