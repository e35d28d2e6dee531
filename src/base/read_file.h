// A whole small file in memory, through the page cache: configs, tokenizers,
// prompts. Never weights (platform/direct_file.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mlx_flash {

// Throws Error(not_found) when `path` is not a readable file and
// Error(bad_model) when it is larger than `max_bytes`. Pipes and devices are
// refused without waiting for anybody at their other end.
std::string read_file(
    const std::filesystem::path& path,
    uint64_t max_bytes = 256ull << 20);

// The same for what a user named, where a pipe is as good as a file.
std::string read_file_or_pipe(
    const std::filesystem::path& path,
    uint64_t max_bytes);

} // namespace mlx_flash
