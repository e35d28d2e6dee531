// JSON as it comes in requests: their bodies, and the texts within bodies that
// are JSON themselves, such as the arguments of tool calls. What is beyond the
// limits is refused before it is built. What the fields mean is in fields.h.
//
// All throw ApiError(invalid_request) that says where the text is wrong, or
// which limit it exceeds.
//
// Thread rule: one thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mlx_flash::server {

struct ServerLimits;

struct JsonLimits {
  size_t depth = 64;
  size_t values = 1u << 16; // of all kinds, and members' names, in all
  // Of one object: one that is kept in order is searched from its beginning
  // for each of them.
  size_t members = 1024;
};
JsonLimits json_limits(const ServerLimits& limits);

// Texts of one request. All together they may have as many values as one.
class JsonTexts {
 public:
  explicit JsonTexts(const JsonLimits& limits) : limits_(limits) {}

  // `field` is what is wrong if the text is no object.
  nlohmann::ordered_json parse(std::string_view text, const std::string& field);
  // Builds nothing.
  void check(std::string_view text, const std::string& field);

 private:
  const JsonLimits limits_;
  size_t values_ = 0;
};

// The object that a request's body is.
nlohmann::ordered_json parse_body(
    std::string_view text,
    const JsonLimits& limits);

} // namespace mlx_flash::server
