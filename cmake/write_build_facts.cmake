# Writes OUT, the source of cli/build_facts.h, with the commit that SOURCE_DIR
# is at. Runs within the build whenever a source or the commit changes, and
# writes only what is different, so that nothing is rebuilt for it.
#
#   cmake -DSOURCE_DIR= -DOUT= -DDEPFILE= -DGIT= -DVERSION= -DTYPE= -DCOMPILER= -P write_build_facts.cmake
#
# Without git, or where SOURCE_DIR is no repository of its own (an unpacked
# archive inside of another one), the commit is "unknown".
set(commit unknown)
set(watched "")
set(ENV{GIT_OPTIONAL_LOCKS} 0)

# git's answer in `variable`; empty after an error.
function(ask_git variable)
  execute_process(COMMAND ${GIT} ${ARGN} WORKING_DIRECTORY ${SOURCE_DIR}
    OUTPUT_VARIABLE answer RESULT_VARIABLE error ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(error)
    set(answer "")
  endif()
  set(${variable} "${answer}" PARENT_SCOPE)
endfunction()

if(GIT AND EXISTS ${SOURCE_DIR}/.git)
  ask_git(described describe --always --dirty --abbrev=12)
  if(described)
    set(commit ${described})
  endif()
  # Grows with each commit and checkout.
  ask_git(log rev-parse --git-path logs/HEAD)
  get_filename_component(log "${log}" ABSOLUTE BASE_DIR ${SOURCE_DIR})
  if(EXISTS "${log}" AND NOT IS_DIRECTORY "${log}")
    string(REPLACE " " "\\ " watched "${log}")
  endif()
endif()

set(text "// Written by cmake/write_build_facts.cmake.
#include \"cli/build_facts.h\"

namespace mlx_flash::cli {

BuildFacts build_facts() {
  return {\"${VERSION}\", \"${commit}\", \"${TYPE}\", \"${COMPILER}\"};
}

} // namespace mlx_flash::cli
")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT text STREQUAL old)
  file(WRITE ${OUT} "${text}")
endif()
string(REPLACE " " "\\ " target "${OUT}")
file(WRITE ${DEPFILE} "${target}: ${watched}\n")
