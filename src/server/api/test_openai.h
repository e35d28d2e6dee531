// For tests of OpenAI's dialect: bodies, what reading them says, and the parts
// of answers.
//
// In a namespace of its own: tests of other dialects have helpers of the same
// names.
//
// Thread rule: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/api/openai_chat.h"
#include "server/api/test_exchange.h"

namespace mlx_flash::server::openai_test {

using TestJson = nlohmann::ordered_json;

// `changes`, an object, on top of a body that nothing is wrong with.
inline TestJson changed(const char* body, const std::string& changes) {
  TestJson result = TestJson::parse(body);
  const TestJson with = TestJson::parse(changes);
  for (const auto& [name, value] : with.items()) {
    result[name] = value;
  }
  return result;
}

inline TestJson chat_body(const std::string& changes) {
  return changed(
      R"({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]})",
      changes);
}

// The field that `read` finds wrong; "" if there is none, and what was thrown
// if that is no 400.
template <typename Read>
std::string wrong_field(const Read& read) {
  try {
    read();
    return {};
  } catch (const ApiError& error) {
    const bool named = error.kind() == ApiErrorKind::invalid_request &&
        std::string(error.what()).find(error.param) != std::string::npos;
    return named ? error.param : std::string("not a 400: ") + error.what();
  }
}

inline Job read_chat(
    const std::string& changes,
    const ServerLimits& limits = {}) {
  ChatWishes wishes;
  return read_chat_request(chat_body(changes), limits, wishes);
}

inline std::string wrong_in_chat(
    const std::string& changes,
    const ServerLimits& limits = {}) {
  return wrong_field([&] { read_chat(changes, limits); });
}

inline const Conversation& conversation_of(const Job& job) {
  return std::get<Conversation>(job.prompt);
}

inline AnswerPart make_part(AnswerPart::Kind kind, std::string text) {
  AnswerPart part;
  part.kind = kind;
  part.text = std::move(text);
  return part;
}

inline AnswerPart make_content(
    std::string text,
    std::vector<TokenText> tokens = {}) {
  AnswerPart part = make_part(AnswerPart::Kind::content, std::move(text));
  part.tokens = std::move(tokens);
  return part;
}

inline AnswerPart make_call(size_t call, std::string id, std::string name) {
  AnswerPart part = make_part(AnswerPart::Kind::tool_call, {});
  part.call = call;
  part.call_id = std::move(id);
  part.call_name = std::move(name);
  return part;
}

inline AnswerPart make_arguments(size_t call, std::string text) {
  AnswerPart part = make_part(AnswerPart::Kind::arguments, std::move(text));
  part.call = call;
  return part;
}

inline ChoiceEnd make_end(ChoiceEnd::Reason reason) {
  ChoiceEnd end;
  end.reason = reason;
  return end;
}

// The chunks of a stream that has come to its [DONE].
inline std::vector<TestJson> chunks_of(const std::string& stream) {
  std::vector<TestJson> chunks;
  bool done = false;
  for (const TestEvent& event : read_events(stream)) {
    if (event.data == "[DONE]") {
      done = true;
    } else if (!event.data.empty()) {
      chunks.push_back(TestJson::parse(event.data));
    }
  }
  return done ? chunks : std::vector<TestJson>();
}

} // namespace mlx_flash::server::openai_test
