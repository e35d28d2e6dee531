// What went wrong with a request, before it has the form of a dialect
// (api/error_shape.h). Each kind has one HTTP status.
#pragma once

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace mlx_flash::server {

enum class ApiErrorKind {
  invalid_request, // 400
  unauthorized, // 401
  forbidden, // 403
  not_found, // 404
  method_not_allowed, // 405
  conflict, // 409
  too_large, // 413
  rate_limited, // 429: the queue is full
  internal, // 500
  unavailable, // 503: loading, released, stopping
  timeout, // 504
};

int http_status(ApiErrorKind kind);

class ApiError : public std::runtime_error {
 public:
  // The message is kept here and not by the base, copies of which share it:
  // errors go from thread to thread.
  ApiError(ApiErrorKind kind, std::string message)
      : std::runtime_error(""), kind_(kind), message_(std::move(message)) {}

  const char* what() const noexcept override {
    return message_.c_str();
  }
  ApiErrorKind kind() const {
    return kind_;
  }

  // The field that is wrong, such as "messages[2].content"; may be empty.
  std::string param{};
  // A word for programs, such as "context_length_exceeded"; may be empty.
  std::string code{};
  // Without, clients are told a default where asking again may help.
  std::optional<int> retry_after_seconds{};

  // The same with what is named set.
  ApiError at(std::string field) const {
    ApiError error = *this;
    error.param = std::move(field);
    return error;
  }
  ApiError with_code(std::string word) const {
    ApiError error = *this;
    error.code = std::move(word);
    return error;
  }

 private:
  ApiErrorKind kind_;
  std::string message_;
};

// A 400 that names `field`.
ApiError invalid_field(const std::string& field, const std::string& message);

// Of what is thrown anywhere: an ApiError as it is, an Error (error.h) by its
// code, anything else as internal.
ApiError to_api_error(const std::exception_ptr& error);

} // namespace mlx_flash::server
