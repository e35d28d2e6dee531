# Every dependency of mlx-flash: where it comes from, and why it is here.
#
#   fmt, spdlog        text formatting and the log; compiled, not header-only (build time)
#   nlohmann-json      config.json, headers and --json output; kept out of our headers
#   liburing           asynchronous O_DIRECT reads on Linux; without it the pread pool serves
#   Highway            one SIMD source for AVX2, AVX-512, NEON with run-time dispatch
#   xxhash             XXH3 checksums of what is read
#   Boost 1.81         Asio and Beast, headers alone: sockets, timers and HTTP of the server;
#                      used in src/server/http alone (build time)
#   CLI11              command line; used by src/cli alone
#   doctest            unit tests: the cheapest to compile
#   google-benchmark   micro benchmarks beside the code
#   MLX 0.32.4         arrays, streams, the GPU back-ends; from its pinned wheel (libmlx and headers)
#   text-ffi (Rust)    HF tokenizers, minijinja, llguidance: the reference tokenizer, a Jinja that
#                      chat templates are tested on, grammar masks; locked in text-ffi/Cargo.lock
#
# For those who work on it, installed by the command of ./dev that needs them:
#
#   clang 19           clang-format, clang-tidy and libFuzzer of one version for everybody (check, fuzz)
#   shellcheck         mistakes in shell scripts (check)
#   g++-12-aarch64-linux-gnu, qemu-user-static
#                      compiles for and runs as ARM (check-cross)
#   ziglang 0.17.0     compiles for macOS without a Mac: clang with Apple's headers (check-cross)
#   numpy              random weights (bench/make_model), goldens (scripts/record_goldens)
#   gguf               writes the models that llama.cpp is measured with (bench/make_model --format gguf)
#   llama.cpp          what we are measured against (bench/peers setup)

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)

find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
add_library(mlx_flash_xxhash INTERFACE)
target_include_directories(mlx_flash_xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE})
target_link_libraries(mlx_flash_xxhash INTERFACE ${XXHASH_LIBRARY})

# Debian 12 has 1.81 beside its older default.
find_package(Boost 1.81 REQUIRED)
add_library(mlx_flash_boost INTERFACE)
target_include_directories(mlx_flash_boost SYSTEM INTERFACE ${Boost_INCLUDE_DIRS})

set(MLX_FLASH_URING "")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  find_path(LIBURING_INCLUDE liburing.h)
  find_library(LIBURING_LIBRARY uring)
  if(LIBURING_INCLUDE AND LIBURING_LIBRARY)
    add_library(mlx_flash_liburing INTERFACE)
    target_include_directories(mlx_flash_liburing SYSTEM INTERFACE ${LIBURING_INCLUDE})
    target_link_libraries(mlx_flash_liburing INTERFACE ${LIBURING_LIBRARY})
    target_compile_definitions(mlx_flash_liburing INTERFACE MLX_FLASH_HAVE_URING=1)
    set(MLX_FLASH_URING mlx_flash_liburing)
  endif()
endif()

if(MLX_FLASH_KERNELS)
  find_path(HWY_INCLUDE hwy/highway.h REQUIRED)
  find_library(HWY_LIBRARY hwy REQUIRED)
  add_library(mlx_flash_hwy INTERFACE)
  target_include_directories(mlx_flash_hwy SYSTEM INTERFACE ${HWY_INCLUDE})
  target_link_libraries(mlx_flash_hwy INTERFACE ${HWY_LIBRARY})
  set(MLX_FLASH_HWY mlx_flash_hwy)
endif()

if(MLX_FLASH_TESTS OR MLX_FLASH_FUZZ)
  find_package(doctest REQUIRED)
endif()
if(MLX_FLASH_BENCH)
  find_package(benchmark REQUIRED)
endif()

if(MLX_FLASH_TENSOR_HALF)
  if(NOT MLX_ROOT)
    file(GLOB MLX_ROOT ${CMAKE_CURRENT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/mlx)
  endif()
  find_package(MLX 0.32 CONFIG REQUIRED)
  find_package(CLI11 REQUIRED)
  include(text_ffi)
endif()
