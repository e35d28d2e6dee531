#include "engine/bounded_json.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mlx_flash {

void require_bounded_json(std::string_view text, const char* what) {
  using Json = nlohmann::json;
  using Event = Json::parse_event_t;
  const auto bound = [what](int depth, Event event, Json&) {
    // `depth` is that of what the array or object lies in.
    if (depth >= kMaxJsonDepth &&
        (event == Event::array_start || event == Event::object_start)) {
      fail(
          ErrorCode::invalid_argument,
          "{} is nested deeper than {} levels",
          what,
          kMaxJsonDepth);
    }
    return true;
  };
  try {
    const Json tree = Json::parse(text, bound);
  } catch (const Json::exception& error) { // a number out of range, too
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string_view message = error.what();
    fail(
        ErrorCode::invalid_argument,
        "{} is no JSON:{}",
        what,
        message.substr(message.find(']') + 1));
  }
}

} // namespace mlx_flash
