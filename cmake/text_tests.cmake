# What text_tests needs besides its sources, and the unit tests of text-ffi.
if(NOT TARGET text_tests)
  return()
endif()

# Unpacks tests/data/tokenizers/*.tar.xz into the build folder for the tests that
# read real vocabularies. CMake itself can unpack, so that no further tool is needed.
set(unpacked ${CMAKE_BINARY_DIR}/test_data/tokenizers)
file(GLOB archives CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/data/tokenizers/*.tar.xz)
set(files "")
foreach(archive ${archives})
  get_filename_component(name ${archive} NAME_WE)
  add_custom_command(
    OUTPUT ${unpacked}/${name}.json
    COMMAND ${CMAKE_COMMAND} -E make_directory ${unpacked}
    COMMAND ${CMAKE_COMMAND} -E chdir ${unpacked} ${CMAKE_COMMAND} -E tar xf ${archive}
    # An archive keeps its files' old time.
    COMMAND ${CMAKE_COMMAND} -E touch ${unpacked}/${name}.json
    DEPENDS ${archive}
    COMMENT "unpacking ${name}.json"
    VERBATIM)
  list(APPEND files ${unpacked}/${name}.json)
endforeach()
add_custom_target(test_data DEPENDS ${files})
add_dependencies(text_tests test_data)
target_compile_definitions(text_tests PRIVATE MLX_FLASH_TEST_TOKENIZERS="${unpacked}")

if(NOT MLX_FLASH_SANITIZE)
  # Cargo builds the unit tests when they are first run.
  add_test(NAME text_ffi_tests
    COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${TEXT_FFI_TARGET_DIR}
            ${CARGO} test --quiet --release --locked --manifest-path ${TEXT_FFI_DIR}/Cargo.toml)
  set_tests_properties(text_ffi_tests PROPERTIES LABELS text TIMEOUT 900)
endif()
