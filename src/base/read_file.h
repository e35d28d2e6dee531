// A whole small file in memory, through the page cache: configs, tokenizers,
// prompts. Never weights (platform/direct_file.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mlx_flash {

// Throws Error(not_found) when `path` is not a readable file and
// Error(bad_model) when it is larger than `max_bytes`.
std::string read_file(
    const std::filesystem::path& path,
    uint64_t max_bytes = 256ull << 20);

} // namespace mlx_flash
