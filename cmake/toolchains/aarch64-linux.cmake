# Compiles for aarch64 Linux on another machine and runs what it made in qemu: a check, never a
# product. Debian's arm64 packages are unpacked in MLX_FLASH_CROSS_ROOT, the C library is the
# cross compiler's own.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc-12)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++-12)

get_filename_component(build ${CMAKE_CURRENT_LIST_DIR}/../../build ABSOLUTE)
set(MLX_FLASH_CROSS_ROOT ${build}/cross/aarch64-root CACHE PATH "Unpacked arm64 packages")
set(libraries ${MLX_FLASH_CROSS_ROOT}/usr/lib/aarch64-linux-gnu)

# MLX_ROOT, where it is given, is a wheel for this target beside the packages.
set(CMAKE_FIND_ROOT_PATH ${MLX_FLASH_CROSS_ROOT} ${MLX_ROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Libraries that libraries need.
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${libraries})

set(CMAKE_CROSSCOMPILING_EMULATOR
  qemu-aarch64-static;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=${libraries})
