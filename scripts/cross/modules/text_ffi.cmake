# In place of cmake/text_ffi.cmake when cross-compiling: functions with the names that the header
# declares and no effect. Enough to compile and link; what calls them is not run.
set(TEXT_FFI_DIR ${CMAKE_CURRENT_SOURCE_DIR}/text-ffi)
file(READ ${TEXT_FFI_DIR}/include/text_ffi.h header)
string(REGEX REPLACE "//[^\n]*" "" header "${header}")
string(REGEX MATCHALL "[a-z0-9]+_[a-z0-9_]+\\(" names "${header}")
list(REMOVE_DUPLICATES names)
string(REPLACE ";" "void) {}\nvoid " definitions "${names}")
file(CONFIGURE OUTPUT text_ffi_stub.c CONTENT "void ${definitions}void) {}\n")
add_library(text_ffi STATIC ${CMAKE_CURRENT_BINARY_DIR}/text_ffi_stub.c)
target_include_directories(text_ffi SYSTEM INTERFACE ${TEXT_FFI_DIR}/include)
if(APPLE)
  # The wheel names frameworks by a path that exists on the machine that built it.
  set_target_properties(mlx PROPERTIES INTERFACE_LINK_LIBRARIES "")
endif()
