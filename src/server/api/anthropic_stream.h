// An answer in Anthropic's Messages API while it is made, as server-sent events
// (https://docs.claude.com/en/api/messages-streaming):
//
//   message_start, ping
//   content_block_start, content_block_delta ..., content_block_stop   each
//   block message_delta, message_stop
//
// and `ping` whenever nothing else was sent for a while. The stream begins as
// soon as the prompt's length is known, or when that takes too long to keep the
// client waiting; an error before that is a response of its own, and one after
// it an `error` event.
//
// Thread rule: the loop, but for the constructor and wait().
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"
#include "server/api/anthropic_message.h"
#include "server/api/sign_of_life.h"
#include "server/http/http.h"
#include "server/job.h"
#include "server/loop.h"

namespace mlx_flash::server {

class AnthropicStream : public AnswerSink,
                        public std::enable_shared_from_this<AnthropicStream> {
 public:
  AnthropicStream(
      AnthropicAnswer answer,
      std::shared_ptr<HttpExchange> exchange,
      Loop& loop,
      double keep_alive_seconds,
      std::function<double()> now = now_seconds);

  // Once, before the job is begun: from here on the client is told that it is
  // not forgotten.
  void wait();

  void on_start(const JobStart& start) override;
  void on_part(size_t choice, AnswerPart part) override;
  void on_choice_end(size_t choice, const ChoiceEnd& end) override;
  void on_end(const Usage& usage, const Timings& timings) override;
  void on_error(const ApiError& error) override;

 private:
  enum class Block { none, text, thinking, tool_use };

  // Each appends events to `out`.
  void open_block(
      std::string& out,
      Block block,
      const nlohmann::ordered_json& content);
  void close_block(std::string& out);
  void append_delta(
      std::string& out,
      const char* type,
      const char* field,
      std::string_view text);
  void append_text(std::string& out, const std::string& text);
  void append_thinking(std::string& out, const std::string& text);

  void begin(uint64_t prompt_tokens);
  void say_alive();
  void write(std::string events);

  AnthropicAnswer answer_;
  const std::shared_ptr<HttpExchange> exchange_;
  bool begun_ = false;
  Block block_ = Block::none;
  size_t index_ = 0; // of the block that is open, or comes next
  std::string hidden_; // thinking of the block that is open, if not shown
  ChoiceEnd end_;
  SignOfLife alive_;
};

} // namespace mlx_flash::server
