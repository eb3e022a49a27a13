# SPDX-License-Identifier: MIT
# What the package tests share; package_test() in CMakeLists.txt gives the variables.
cmake_minimum_required(VERSION 3.25)

# Runs a command, shows it, and ends the test when it fails.
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# configure_and_build(<source> <build> OPTIONS...) with the compiler and flags of the outer build.
function(configure_and_build source build)
  run(${CMAKE_COMMAND} --fresh -S ${source} -B ${build} -G ${GENERATOR}
      -DCMAKE_CXX_COMPILER=${CXX} "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}"
      -DCMAKE_BUILD_TYPE=${BUILD_TYPE} ${ARGN})
  run(${CMAKE_COMMAND} --build ${build})
endfunction()
