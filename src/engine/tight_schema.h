// A JSON schema as constrained decoding should see it.
#pragma once

#include <string>

namespace mlx_flash {

// The same schema with whitespace between tokens ruled out: where the grammar
// allows any, a small model writes blanks for ever. A schema that sets
// llguidance's own "x-guidance" options keeps them. Text that is no JSON
// object comes back as it is, for the grammar to refuse.
std::string tight_schema(const std::string& json_schema);

} // namespace mlx_flash
