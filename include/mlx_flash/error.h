// The one exception type of mlx-flash.
#pragma once

#include <stdexcept>
#include <string>

namespace mlx_flash {

// What a caller can act on. Each edge maps a code once: the exit code of a
// command, the status of a request.
enum class ErrorCode {
  invalid_argument, // a flag, an option or a value that cannot be honoured
  not_found, // a file or folder that is not there
  bad_model, // a model folder that is malformed or inconsistent
  unsupported, // well formed, but not something this build can run
  out_of_budget, // does not fit the memory it was given
  io, // a read that failed, came short or returned wrong bytes
  cancelled, // the caller asked for it
  internal, // our own mistake
};

// The message reads "[where] what, with the numbers and the path; what to do".
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message)
      : std::runtime_error(message), code_(code) {}

  ErrorCode code() const {
    return code_;
  }

 private:
  ErrorCode code_;
};

} // namespace mlx_flash
