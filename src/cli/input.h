// What commands read besides the model: prompts and token ids. Whatever
// is wrong with an input is the user's to mend: Error(invalid_argument), also
// for a file that is not there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_flash/generation.h"

namespace mlx_flash::cli {

// The content of a file, or of standard input for "-"; at most 64 MiB.
std::string read_input(const std::string& path);

bool stdin_is_terminal();

// Token ids from a file with a JSON list of whole numbers. Messages name
// `source`, the file.
std::vector<TokenId> parse_ids(
    const std::string& json,
    const std::string& source);

} // namespace mlx_flash::cli
