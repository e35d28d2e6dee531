#include "server/api/anthropic_stream.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/anthropic_conversation.h"
#include "server/api/sse.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

std::string event(const char* type, Json fields = Json::object()) {
  Json data = {{"type", type}};
  data.update(fields);
  return sse_event(type, anthropic_dump(data));
}

} // namespace

AnthropicStream::AnthropicStream(
    AnthropicAnswer answer,
    std::shared_ptr<HttpExchange> exchange,
    Loop& loop,
    double keep_alive_seconds,
    std::function<double()> now)
    : answer_(std::move(answer)),
      exchange_(std::move(exchange)),
      alive_(loop, keep_alive_seconds, std::move(now)) {}

void AnthropicStream::wait() {
  alive_.begin([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->say_alive();
    }
  });
}

void AnthropicStream::begin(uint64_t prompt_tokens) {
  if (begun_) {
    return;
  }
  begun_ = true;
  Usage usage;
  usage.prompt_tokens = prompt_tokens;
  exchange_->begin(sse_response(
      event(
          "message_start",
          {{"message", anthropic_empty_message(answer_, usage)}}) +
      event("ping")));
  alive_.wrote();
}

void AnthropicStream::say_alive() {
  if (begun_) {
    write(event("ping"));
  } else {
    begin(0);
  }
}

void AnthropicStream::write(std::string events) {
  if (!events.empty()) {
    exchange_->write(std::move(events));
    alive_.wrote();
  }
}

void AnthropicStream::on_start(const JobStart& start) {
  answer_.model = start.model;
  begin(start.prompt_tokens);
}

void AnthropicStream::open_block(
    std::string& out,
    Block block,
    const Json& content) {
  close_block(out);
  block_ = block;
  out += event(
      "content_block_start", {{"index", index_}, {"content_block", content}});
}

void AnthropicStream::close_block(std::string& out) {
  if (block_ == Block::none) {
    return;
  }
  if (block_ == Block::thinking) {
    append_delta(
        out, "signature_delta", "signature", anthropic_signature(hidden_));
    hidden_.clear();
  }
  out += event("content_block_stop", {{"index", index_}});
  block_ = Block::none;
  ++index_;
}

void AnthropicStream::append_delta(
    std::string& out,
    const char* type,
    const char* field,
    std::string_view text) {
  out += event(
      "content_block_delta",
      {{"index", index_}, {"delta", {{"type", type}, {field, text}}}});
}

void AnthropicStream::append_text(std::string& out, const std::string& text) {
  if (text.empty()) {
    return;
  }
  if (block_ != Block::text) {
    open_block(out, Block::text, anthropic_text_block(""));
  }
  append_delta(out, "text_delta", "text", text);
}

void AnthropicStream::append_thinking(
    std::string& out,
    const std::string& text) {
  if (text.empty()) {
    return;
  }
  if (block_ != Block::thinking) {
    open_block(out, Block::thinking, anthropic_thinking_block("", ""));
  }
  if (answer_.shows_thinking) {
    append_delta(out, "thinking_delta", "thinking", text);
  } else {
    hidden_ += text;
  }
}

void AnthropicStream::on_part(size_t, AnswerPart part) {
  std::string out;
  switch (part.kind) {
    case AnswerPart::Kind::content:
      append_text(out, part.text);
      break;
    case AnswerPart::Kind::reasoning:
      append_thinking(out, part.text);
      break;
    case AnswerPart::Kind::tool_call:
      open_block(
          out,
          Block::tool_use,
          anthropic_tool_use_block(
              part.call_id, part.call_name, Json::object()));
      break;
    case AnswerPart::Kind::arguments:
      append_delta(out, "input_json_delta", "partial_json", part.text);
      break;
  }
  write(std::move(out));
}

void AnthropicStream::on_choice_end(size_t, const ChoiceEnd& end) {
  end_ = end;
}

void AnthropicStream::on_end(const Usage& usage, const Timings&) {
  alive_.stop();
  std::string out;
  close_block(out);
  Json delta = {
      {"delta",
       {{"stop_reason", anthropic_stop_reason(end_)},
        {"stop_sequence", anthropic_stop_sequence(end_)}}},
      {"usage", anthropic_usage(usage)},
  };
  if (answer_.edits_context) {
    delta["context_management"] = anthropic_no_edits();
  }
  out += event("message_delta", std::move(delta));
  out += event("message_stop");
  write(std::move(out));
  exchange_->end();
}

void AnthropicStream::on_error(const ApiError& error) {
  alive_.stop();
  HttpResponse response = anthropic_error(error);
  if (begun_) {
    write(sse_event("error", response.body));
    exchange_->end();
  } else {
    exchange_->send(std::move(response));
  }
}

} // namespace mlx_flash::server
