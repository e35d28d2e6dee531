// JSON schemas of requests, before anything is made of them.
//
// Thread rule: pure functions.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mlx_flash::parse {

inline constexpr int kMostSchemaDepth = 100;

// Throws Error(invalid_argument), beginning with `what`, for text that is no
// JSON object or nested deeper than kMostSchemaDepth: printing recurses.
nlohmann::ordered_json parse_schema(
    std::string_view text,
    std::string_view what);

// The first keyword that is neither one of these nor one that rules out no
// value, such as "title"; empty if there is none.
std::string other_keyword(
    const nlohmann::ordered_json& schema,
    const std::set<std::string>& known);

// Whatever bytes its texts have.
std::string print(const nlohmann::ordered_json& json);

} // namespace mlx_flash::parse
