# Compiles for macOS on Linux with zig, which brings Apple's headers and stubs of its system
# libraries: a check that the sources compile and link, never a product. scripts/cross/check_macos
# puts zig and everything else that it names in place.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_VERSION 23.0)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_OSX_ARCHITECTURES "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "" CACHE STRING "")

set(tools ${CMAKE_CURRENT_LIST_DIR}/../../scripts/cross)
set(CMAKE_C_COMPILER ${tools}/zig-cc)
set(CMAKE_CXX_COMPILER ${tools}/zig-c++)
set(CMAKE_AR ${tools}/zig-ar)
set(CMAKE_RANLIB ${tools}/zig-ranlib)
# zig's linker does not know install_name_tool's flags.
set(CMAKE_PLATFORM_HAS_INSTALLNAME 0)

# Nothing of the host but its programs: its headers are for another system. MLX_ROOT is a wheel
# for this target.
set(CMAKE_FIND_ROOT_PATH ${CMAKE_CURRENT_LIST_DIR}/../../build/cross/macos-root ${MLX_ROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
