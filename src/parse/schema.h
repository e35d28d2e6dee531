// JSON schemas of requests, before anything is made of them.
//
// Thread rule: a pure function.
#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mlx_flash::parse {

inline constexpr int kMostSchemaDepth = 100;

// Throws Error(invalid_argument), beginning with `what`, for text that is no
// JSON object or nested deeper than kMostSchemaDepth: printing recurses.
nlohmann::ordered_json parse_schema(
    std::string_view text,
    std::string_view what);

} // namespace mlx_flash::parse
