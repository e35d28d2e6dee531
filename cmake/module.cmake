# mlx_flash_module(<folder> DEPS <targets> PRIVATE_DEPS <targets>)
#
# Makes mlx_flash_<folder> of src/<folder>/*.cpp. Files beside the code that end in
# _test.cpp, _bench.cpp and _fuzz.cpp become <folder>_tests, <folder>_bench and one fuzz
# program each.
include(GNUInstallDirs)

add_library(mlx_flash_options INTERFACE)
target_compile_options(mlx_flash_options INTERFACE -Wall -Wextra -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms in std::string's operator+ (GCC bug 105329).
  target_compile_options(mlx_flash_options INTERFACE -Wno-restrict)
endif()
target_include_directories(mlx_flash_options INTERFACE
  ${CMAKE_CURRENT_SOURCE_DIR}/src ${CMAKE_CURRENT_SOURCE_DIR}/include ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mlx_flash_options INTERFACE Threads::Threads)
if(MLX_FLASH_SANITIZE)
  target_compile_options(mlx_flash_options INTERFACE
    -fsanitize=${MLX_FLASH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(mlx_flash_options INTERFACE -fsanitize=${MLX_FLASH_SANITIZE})
endif()

# doctest's main, compiled once.
if(MLX_FLASH_TESTS)
  add_library(mlx_flash_test_main STATIC ${CMAKE_CURRENT_SOURCE_DIR}/tests/support/main.cpp)
  target_link_libraries(mlx_flash_test_main PUBLIC mlx_flash_options doctest::doctest)
  target_compile_definitions(mlx_flash_test_main PUBLIC
    MLX_FLASH_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/tests/data"
    MLX_FLASH_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
endif()

function(mlx_flash_tests name label)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} mlx_flash_test_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 600)
endfunction()

function(mlx_flash_module folder)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE_DEPS" ${ARGN})
  set(dir ${CMAKE_CURRENT_SOURCE_DIR}/src/${folder})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cpp)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${dir}/*_test.cpp)
  file(GLOB_RECURSE benches CONFIGURE_DEPENDS ${dir}/*_bench.cpp)
  file(GLOB_RECURSE fuzzers CONFIGURE_DEPENDS ${dir}/*_fuzz.cpp)
  if(tests OR benches OR fuzzers)
    list(REMOVE_ITEM sources ${tests} ${benches} ${fuzzers})
  endif()
  set(target mlx_flash_${folder})
  if(NOT sources)
    message(FATAL_ERROR "src/${folder} has no sources")
  endif()
  add_library(${target} STATIC ${sources})
  target_link_libraries(${target} PUBLIC mlx_flash_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})

  set(label core)
  if("mlx" IN_LIST ARG_DEPS)
    set(label mlx)
  elseif(folder STREQUAL "text")
    set(label text)
  elseif(folder STREQUAL "kernels")
    set(label kernels)
  endif()
  if(MLX_FLASH_TESTS AND tests)
    mlx_flash_tests(${folder}_tests ${label} SOURCES ${tests}
      DEPS ${target} ${ARG_PRIVATE_DEPS})
  endif()
  if(MLX_FLASH_BENCH AND benches)
    add_executable(${folder}_bench ${benches})
    target_link_libraries(${folder}_bench PRIVATE ${target} ${ARG_PRIVATE_DEPS}
      benchmark::benchmark benchmark::benchmark_main)
    target_compile_definitions(${folder}_bench PRIVATE
      MLX_FLASH_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
    # A smoke run of every benchmark, so that none rots. Sanitizers make what
    # it sets up ten times as slow.
    set(timeout 300)
    if(MLX_FLASH_SANITIZE)
      set(timeout 1800)
    endif()
    add_test(NAME ${folder}_bench_smoke
      COMMAND ${folder}_bench --benchmark_min_time=0.001)
    set_tests_properties(${folder}_bench_smoke PROPERTIES LABELS "${label}" TIMEOUT ${timeout})
  endif()
  if(MLX_FLASH_FUZZ)
    foreach(source ${fuzzers})
      get_filename_component(name ${source} NAME_WE)
      add_executable(${name} ${source})
      target_link_libraries(${name} PRIVATE ${target} ${ARG_PRIVATE_DEPS})
      target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    endforeach()
  endif()
endfunction()
