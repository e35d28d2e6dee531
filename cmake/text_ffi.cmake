# The Rust static library, by plain cargo: no further build tool.
find_program(CARGO cargo PATHS $ENV{HOME}/.cargo/bin REQUIRED)
set(TEXT_FFI_DIR ${CMAKE_CURRENT_SOURCE_DIR}/text-ffi)
# Shared by all presets: the Rust code is the same in each.
set(TEXT_FFI_TARGET_DIR ${CMAKE_CURRENT_SOURCE_DIR}/build/cargo CACHE PATH "Where cargo builds")
set(cargo_environment "")
set(cargo_arguments "")
set(cargo_profile_dir ${TEXT_FFI_TARGET_DIR}/release)
if(MLX_FLASH_FUZZ)
  # libFuzzer is blind without coverage. With a named target, the flags do not reach
  # build scripts, which could not link.
  execute_process(COMMAND ${CARGO} version --verbose OUTPUT_VARIABLE cargo_version
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "host: ([^\n]+)" ignored "${cargo_version}")
  set(cargo_host ${CMAKE_MATCH_1})
  string(JOIN " " cargo_flags -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=3
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table)
  list(APPEND cargo_environment "RUSTFLAGS=${cargo_flags}")
  list(APPEND cargo_arguments --target ${cargo_host})
  set(cargo_profile_dir ${TEXT_FFI_TARGET_DIR}/${cargo_host}/release)
endif()
set(TEXT_FFI_LIB ${cargo_profile_dir}/libtext_ffi.a)

add_custom_command(
  OUTPUT ${TEXT_FFI_LIB}
  COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${TEXT_FFI_TARGET_DIR} ${cargo_environment}
          ${CARGO} rustc --quiet --release --locked --crate-type staticlib ${cargo_arguments}
          --manifest-path ${TEXT_FFI_DIR}/Cargo.toml
  # Cargo writes it, so that edits of any .rs file rebuild.
  DEPFILE ${cargo_profile_dir}/libtext_ffi.d
  DEPENDS ${TEXT_FFI_DIR}/Cargo.toml ${TEXT_FFI_DIR}/Cargo.lock
  COMMENT "cargo: text-ffi (the first build takes about two minutes)"
  VERBATIM USES_TERMINAL)
add_custom_target(text_ffi_build DEPENDS ${TEXT_FFI_LIB})
add_library(text_ffi STATIC IMPORTED GLOBAL)
set_target_properties(text_ffi PROPERTIES
  IMPORTED_LOCATION ${TEXT_FFI_LIB}
  INTERFACE_INCLUDE_DIRECTORIES ${TEXT_FFI_DIR}/include)
if(APPLE)
  set_property(TARGET text_ffi PROPERTY INTERFACE_LINK_LIBRARIES
    Threads::Threads "-framework CoreFoundation" iconv)
else()
  set_property(TARGET text_ffi PROPERTY INTERFACE_LINK_LIBRARIES
    Threads::Threads ${CMAKE_DL_LIBS} m rt util)
endif()
add_dependencies(text_ffi text_ffi_build)
