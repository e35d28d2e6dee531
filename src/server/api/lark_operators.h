// What of Lark grammars from users is not compiled.
//
// Thread rule: any thread.
#pragma once

#include <string_view>

namespace mlx_flash::server {

// Whether a terminal is made of what two others have in common ("&") or of
// what another one is not ("~"; repetitions, as in "x~2..3", are no such
// thing). Deciding whether such a terminal matches anything can take minutes
// and gigabytes for less than a hundred bytes: it has as many states as all
// that it is made of, multiplied.
bool has_set_operators(std::string_view grammar);

} // namespace mlx_flash::server
