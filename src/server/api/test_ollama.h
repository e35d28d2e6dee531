// For tests of Ollama's API.
//
// Thread rule: pure functions.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/api_error.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

// What `call` throws as an ApiError.
template <typename Call>
std::optional<ApiError> error_of(const Call& call) {
  try {
    call();
  } catch (const ApiError& error) {
    return error;
  }
  return std::nullopt;
}

// The field that its error names, or "none".
template <typename Call>
std::string field_of(const Call& call) {
  const auto error = error_of(call);
  return error ? error->param : "none";
}

// The objects of a stream, one a line. Throws for a line that is none.
inline std::vector<Json> read_lines(const std::string& stream) {
  std::vector<Json> lines;
  size_t begin = 0;
  for (size_t end; (end = stream.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    lines.push_back(Json::parse(stream.substr(begin, end - begin)));
  }
  if (begin != stream.size()) {
    lines.push_back("not ended by a line end");
  }
  return lines;
}

// 2026-11-22T22:07:00.000000123Z
inline std::chrono::system_clock::time_point test_moment() {
  using namespace std::chrono;
  return system_clock::time_point(duration_cast<system_clock::duration>(
      seconds(1795385220) + nanoseconds(123)));
}

} // namespace mlx_flash::server
