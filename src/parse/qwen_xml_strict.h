// Grammars for the parameters of strict tools in Qwen's XML form. The form has
// no quotes, so texts are held to what regular expressions can say of them,
// and all other values to their schemas.
//
// Thread rule: a pure function.
#pragma once

#include <cstddef>
#include <string>

#include "parse/tool_form.h"

namespace mlx_flash::parse {

struct StrictParameters {
  std::string sequence; // what stands between the function's marks
  std::string rules; // that it names, each beginning with `rule` and "_"
};

// The parameters that the tool's schema names, in its order. Takes from `room`
// the bytes that their values have. Throws Error(invalid_argument) that names
// the keyword for what it cannot hold to, and the parameter for which there is
// no room.
StrictParameters strict_parameters(
    const std::string& rule,
    const ToolSignature& tool,
    size_t& room);

} // namespace mlx_flash::parse
