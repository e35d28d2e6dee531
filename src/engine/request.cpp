#include "engine/request.h"

#include <algorithm>
#include <exception>

#include "base/log.h"

namespace mlx_flash {

std::exception_ptr make_error(ErrorCode code, const std::string& message) {
  return std::make_exception_ptr(Error(code, message));
}

std::exception_ptr current_error() {
  try {
    throw;
  } catch (const Error&) {
    return std::current_exception();
  } catch (const std::exception& other) {
    return make_error(
        ErrorCode::internal, fmt::format("[engine] {}", other.what()));
  }
}

void Request::tell_position(uint64_t now) {
  if (position != now && result.tokens.empty()) {
    position = now;
    tell_read();
  }
}

void Request::tell_admitted(uint64_t known) {
  if (result.tokens.empty()) {
    position = 0;
    // Of what was read before it had to give way, nothing was known.
    const uint64_t cached = known > again ? known - again : 0;
    result.cached_tokens = std::max(result.cached_tokens, cached);
    tell_read();
  }
}

void Request::tell_read() {
  if (listener && kind == Kind::generate && result.tokens.empty()) {
    const uint64_t all = result.prompt_tokens;
    const uint64_t left = std::min<uint64_t>(all, tokens.size() - read);
    listener->on_progress({position, all, all - left, result.cached_tokens});
  }
}

// Whoever listens, the others' requests go on.
void Request::deliver() {
  try {
    if (listener) {
      listener->on_end(*this);
    }
  } catch (const std::exception& error) {
    log::warn("[engine] at the end of a request: {}", error.what());
  }
}

} // namespace mlx_flash
