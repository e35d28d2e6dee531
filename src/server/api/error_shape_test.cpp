#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/routes.h"

using namespace mlx_flash::server;

namespace {

using Json = nlohmann::json;

Json body_of(Dialect dialect, const ApiError& error) {
  return Json::parse(error_response(dialect, error).body);
}

std::string header_of(const HttpResponse& response, const std::string& name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) {
      return value;
    }
  }
  return {};
}

} // namespace

TEST_CASE("errors have the form of their dialect") {
  const ApiError error =
      invalid_field("n", "n must be from 1 to 8, not 9").with_code("range");
  CHECK(body_of(Dialect::openai, error) == Json::parse(R"({"error": {
          "message": "n must be from 1 to 8, not 9",
          "type": "invalid_request_error", "param": "n", "code": "range"}})"));
  CHECK(
      body_of(Dialect::anthropic, error) ==
      Json::parse(R"({"type": "error", "error": {
          "type": "invalid_request_error",
          "message": "n must be from 1 to 8, not 9"}})"));
  CHECK(
      body_of(Dialect::ollama, error) ==
      Json::parse(R"({"error": "n must be from 1 to 8, not 9"})"));
}

TEST_CASE("errors: what is not named is null for OpenAI's clients") {
  const Json body =
      body_of(Dialect::openai, ApiError(ApiErrorKind::internal, "oh"));
  CHECK(body["error"]["param"].is_null());
  CHECK(body["error"]["code"].is_null());
}

TEST_CASE("errors of each kind have a status and a type in each dialect") {
  struct Row {
    ApiErrorKind kind;
    int status;
    const char* openai;
    const char* anthropic;
  };
  const Row rows[] = {
      {ApiErrorKind::invalid_request,
       400,
       "invalid_request_error",
       "invalid_request_error"},
      {ApiErrorKind::unauthorized,
       401,
       "authentication_error",
       "authentication_error"},
      {ApiErrorKind::forbidden, 403, "permission_error", "permission_error"},
      {ApiErrorKind::not_found,
       404,
       "invalid_request_error",
       "not_found_error"},
      {ApiErrorKind::method_not_allowed,
       405,
       "invalid_request_error",
       "invalid_request_error"},
      {ApiErrorKind::conflict,
       409,
       "invalid_request_error",
       "invalid_request_error"},
      {ApiErrorKind::too_large,
       413,
       "invalid_request_error",
       "request_too_large"},
      {ApiErrorKind::rate_limited, 429, "rate_limit_error", "rate_limit_error"},
      {ApiErrorKind::internal, 500, "server_error", "api_error"},
      {ApiErrorKind::unavailable,
       503,
       "service_unavailable_error",
       "overloaded_error"},
      {ApiErrorKind::timeout, 504, "timeout_error", "timeout_error"},
  };
  for (const Row& row : rows) {
    const ApiError error(row.kind, "why");
    CAPTURE(row.status);
    for (const Dialect dialect :
         {Dialect::openai, Dialect::anthropic, Dialect::ollama}) {
      const HttpResponse response = error_response(dialect, error);
      CHECK(response.status == row.status);
      CHECK(response.content_type == "application/json");
    }
    CHECK(body_of(Dialect::openai, error)["error"]["type"] == row.openai);
    CHECK(body_of(Dialect::anthropic, error)["error"]["type"] == row.anthropic);
  }
}

TEST_CASE("errors say when to come again, and how to be let in") {
  ApiError busy(ApiErrorKind::rate_limited, "busy");
  CHECK(header_of(error_response(Dialect::ollama, busy), "retry-after") == "1");
  const ApiError stopping(ApiErrorKind::unavailable, "stopping");
  CHECK(
      header_of(error_response(Dialect::anthropic, stopping), "retry-after") ==
      "1");
  CHECK(
      header_of(
          error_response(Dialect::openai, invalid_field("n", "n is wrong")),
          "retry-after") == "");
  busy.retry_after_seconds = 7;
  CHECK(header_of(error_response(Dialect::ollama, busy), "retry-after") == "7");
  const ApiError stranger(ApiErrorKind::unauthorized, "no key");
  CHECK(
      header_of(
          error_response(Dialect::openai, stranger), "www-authenticate") ==
      "Bearer");
}

TEST_CASE("errors may quote what is cut within a character") {
  const ApiError error = invalid_field("a\xc3", "a\xc3 is not known");
  for (const Dialect dialect :
       {Dialect::openai, Dialect::anthropic, Dialect::ollama}) {
    CHECK_NOTHROW(body_of(dialect, error));
  }
}
