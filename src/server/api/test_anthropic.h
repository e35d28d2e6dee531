// For tests of Anthropic's dialect: bodies, and what reading them says.
//
// In a namespace of its own: tests of other dialects have helpers of the same
// names.
//
// Thread rule: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "server/api/anthropic_request.h"

namespace mlx_flash::server::anthropic_test {

using TestJson = nlohmann::ordered_json;

// A body that nothing is wrong with, and `fields` (in braces) on top of it; a
// field that is null there is left out.
inline TestJson anthropic_body(const std::string& fields = "{}") {
  TestJson body = TestJson::parse(R"({
      "model": "demo", "max_tokens": 100,
      "messages": [{"role": "user", "content": "Hi"}]})");
  const TestJson changes = TestJson::parse(fields);
  for (const auto& [name, value] : changes.items()) {
    body[name] = value;
    if (value.is_null()) {
      body.erase(name);
    }
  }
  return body;
}

inline AnthropicRequest read_body(
    const std::string& fields,
    AnthropicPurpose purpose = AnthropicPurpose::message,
    const ServerLimits& limits = {}) {
  return read_anthropic_request(anthropic_body(fields), purpose, limits);
}

// What is said of it, behind the name of the field; empty if it is accepted.
inline std::string refusal(
    const std::string& fields,
    AnthropicPurpose purpose = AnthropicPurpose::message,
    const ServerLimits& limits = {}) {
  try {
    read_body(fields, purpose, limits);
    return {};
  } catch (const ApiError& error) {
    return error.kind() == ApiErrorKind::invalid_request
        ? "[" + error.param + "] " + error.what()
        : "not a 400";
  }
}

inline bool refuses(const std::string& fields, const std::string& field) {
  return refusal(fields).rfind("[" + field + "] ", 0) == 0;
}

inline const Conversation& conversation_of(const AnthropicRequest& request) {
  return std::get<Conversation>(request.job.prompt);
}

} // namespace mlx_flash::server::anthropic_test
