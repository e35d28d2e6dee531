// "Did you mean": the known name that is nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mlx_flash::cli {

// Insertions, deletions, replacements and swaps of neighbours that turn `a`
// into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

// " Did you mean 'x'?" for the nearest of `names`, when it is near enough to
// be a typing mistake; empty otherwise.
std::string suggestion(
    std::string_view name,
    std::span<const std::string> names);

} // namespace mlx_flash::cli
