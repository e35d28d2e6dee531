#include "server/api/ollama_reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/rfc3339.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

// What differs between both kinds.
struct Piece {
  std::string content{};
  std::string thinking{};
  Json tool_calls = Json::array();
};

Json object_of(
    OllamaKind kind,
    const std::string& model,
    const WallClock& clock,
    Piece piece,
    bool done) {
  Json object{{"model", model}, {"created_at", rfc3339(clock())}};
  const bool chat = kind == OllamaKind::chat;
  // Always there: some clients insist on role and content.
  Json message = chat ? Json{{"role", "assistant"}} : Json::object();
  message[chat ? "content" : "response"] = std::move(piece.content);
  if (!piece.thinking.empty()) {
    message["thinking"] = std::move(piece.thinking);
  }
  if (!piece.tool_calls.empty()) {
    message["tool_calls"] = std::move(piece.tool_calls);
  }
  if (chat) {
    object["message"] = std::move(message);
  } else {
    object.update(message);
  }
  object["done"] = done;
  return object;
}

std::string text_of(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json call_json(const ToolCall& call, size_t index) {
  Json arguments = Json::parse(call.arguments, nullptr, false);
  if (!arguments.is_object()) { // cut off by the end of the answer
    arguments = Json::object();
  }
  Json function{{"index", index}, {"name", call.name}};
  function["arguments"] = std::move(arguments);
  return {{"id", call.id}, {"function", std::move(function)}};
}

// JSON knows no infinity; -9999 is what others give for what cannot be.
double finite(double logprob) {
  return logprob >= -9999 ? logprob : -9999;
}

Json token_json(const TokenText& token) {
  Json bytes = Json::array();
  for (const char c : token.bytes) {
    bytes.push_back(static_cast<unsigned char>(c));
  }
  return {
      {"token", token.bytes},
      {"logprob", finite(token.logprob)},
      {"bytes", std::move(bytes)}};
}

void add_logprobs(Json& object, const std::vector<TokenText>& tokens) {
  if (tokens.empty()) {
    return;
  }
  Json& logprobs = object["logprobs"] = Json::array();
  for (const TokenText& token : tokens) {
    Json& each = logprobs.emplace_back(token_json(token));
    if (!token.top.empty()) {
      Json& top = each["top_logprobs"] = Json::array();
      for (const TokenText& other : token.top) {
        top.push_back(token_json(other));
      }
    }
  }
}

int64_t nanoseconds_of(double seconds) {
  return std::llround(std::clamp(seconds, 0.0, 9e9) * 1e9);
}

void add_end(
    Json& object,
    const ChoiceEnd& end,
    const Usage& usage,
    const Timings& timings,
    double more_load_seconds) {
  // Calls of tools end in "stop" too.
  object["done_reason"] =
      end.reason == ChoiceEnd::Reason::length ? "length" : "stop";
  object["total_duration"] = nanoseconds_of(timings.total_seconds);
  object["load_duration"] =
      nanoseconds_of(timings.load_seconds + more_load_seconds);
  object["prompt_eval_count"] = usage.prompt_tokens;
  object["prompt_eval_duration"] = nanoseconds_of(timings.prompt_seconds);
  object["eval_count"] = usage.completion_tokens;
  object["eval_duration"] = nanoseconds_of(timings.decode_seconds);
}

} // namespace

OllamaReply::OllamaReply(OllamaKind kind, std::string model, WallClock clock)
    : kind_(kind), model_(std::move(model)), clock_(std::move(clock)) {}

void OllamaReply::add_load_seconds(double seconds) {
  load_seconds_ += seconds;
}

std::string OllamaReply::content(
    const std::string& text,
    const std::vector<TokenText>& tokens) const {
  Json object = object_of(kind_, model_, clock_, {.content = text}, false);
  add_logprobs(object, tokens);
  return text_of(object);
}

std::string OllamaReply::thinking(const std::string& text) const {
  return text_of(object_of(kind_, model_, clock_, {.thinking = text}, false));
}

std::string OllamaReply::tool_call(const ToolCall& call, size_t index) const {
  Piece piece;
  piece.tool_calls.push_back(call_json(call, index));
  return text_of(object_of(kind_, model_, clock_, std::move(piece), false));
}

std::string OllamaReply::sign_of_life(
    const std::optional<PromptProgress>& progress) const {
  Json object = object_of(kind_, model_, clock_, {}, false);
  if (progress) {
    object["progress"] = {
        {"queue_position", progress->queue_position},
        {"prompt_tokens", progress->prompt_tokens},
        {"prompt_read", progress->prompt_read},
        {"cached_tokens", progress->cached_tokens},
        {"tokens_per_second", progress->tokens_per_second},
        {"seconds_left", progress->seconds_left}};
  }
  return text_of(object);
}

std::string OllamaReply::end(
    const ChoiceEnd& end,
    const Usage& usage,
    const Timings& timings) const {
  Json object = object_of(kind_, model_, clock_, {}, true);
  add_end(object, end, usage, timings, load_seconds_);
  return text_of(object);
}

std::string OllamaReply::whole(const CollectedAnswer& answer) const {
  const CollectedChoice& choice = answer.choices.at(0);
  Piece piece{choice.content, choice.reasoning};
  for (const ToolCall& call : choice.tool_calls) {
    piece.tool_calls.push_back(call_json(call, piece.tool_calls.size()));
  }
  Json object = object_of(kind_, model_, clock_, std::move(piece), true);
  add_end(object, choice.end, answer.usage, answer.timings, load_seconds_);
  add_logprobs(object, choice.tokens);
  return text_of(object);
}

std::string OllamaReply::done(const char* reason) const {
  Json object = object_of(kind_, model_, clock_, {}, true);
  object["done_reason"] = reason;
  return text_of(object);
}

} // namespace mlx_flash::server
