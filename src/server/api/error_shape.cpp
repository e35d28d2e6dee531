#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api/routes.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

const char* openai_type(ApiErrorKind kind) {
  switch (kind) {
    case ApiErrorKind::unauthorized:
      return "authentication_error";
    case ApiErrorKind::forbidden:
      return "permission_error";
    case ApiErrorKind::rate_limited:
      return "rate_limit_error";
    case ApiErrorKind::unavailable:
      return "service_unavailable_error";
    case ApiErrorKind::timeout:
      return "timeout_error";
    case ApiErrorKind::internal:
      return "server_error";
    case ApiErrorKind::invalid_request:
    case ApiErrorKind::not_found:
    case ApiErrorKind::method_not_allowed:
    case ApiErrorKind::conflict:
    case ApiErrorKind::too_large:
      break;
  }
  return "invalid_request_error";
}

// https://docs.claude.com/en/api/errors
const char* anthropic_type(ApiErrorKind kind) {
  switch (kind) {
    case ApiErrorKind::unauthorized:
      return "authentication_error";
    case ApiErrorKind::forbidden:
      return "permission_error";
    case ApiErrorKind::not_found:
      return "not_found_error";
    case ApiErrorKind::too_large:
      return "request_too_large";
    case ApiErrorKind::rate_limited:
      return "rate_limit_error";
    case ApiErrorKind::unavailable:
      return "overloaded_error";
    case ApiErrorKind::timeout:
      return "timeout_error";
    case ApiErrorKind::internal:
      return "api_error";
    case ApiErrorKind::invalid_request:
    case ApiErrorKind::method_not_allowed:
    case ApiErrorKind::conflict:
      break;
  }
  return "invalid_request_error";
}

Json error_body(Dialect dialect, const ApiError& error) {
  switch (dialect) {
    case Dialect::anthropic:
      return {
          {"type", "error"},
          {"error",
           {{"type", anthropic_type(error.kind())}, {"message", error.what()}}},
      };
    case Dialect::ollama:
      return {{"error", error.what()}};
    case Dialect::openai:
      break;
  }
  return {
      {"error",
       {{"message", error.what()},
        {"type", openai_type(error.kind())},
        {"param", text_or_null(error.param)},
        {"code", text_or_null(error.code)}}},
  };
}

// Seconds until a client may ask again, where nothing better is known.
constexpr int kRetrySeconds = 1;

std::optional<int> retry_seconds(const ApiError& error) {
  const bool later = error.kind() == ApiErrorKind::rate_limited ||
      error.kind() == ApiErrorKind::unavailable;
  return error.retry_after_seconds || !later ? error.retry_after_seconds
                                             : kRetrySeconds;
}

} // namespace

HttpResponse error_response(Dialect dialect, const ApiError& error) {
  HttpResponse response;
  response.status = http_status(error.kind());
  // A message may quote a part of what was sent, cut within a character.
  response.body = error_body(dialect, error)
                      .dump(-1, ' ', false, Json::error_handler_t::replace);
  if (error.kind() == ApiErrorKind::unauthorized) {
    response.headers.emplace_back("www-authenticate", "Bearer");
  }
  if (const auto seconds = retry_seconds(error)) {
    response.headers.emplace_back("retry-after", fmt::to_string(*seconds));
  }
  return response;
}

} // namespace mlx_flash::server
