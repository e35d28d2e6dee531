// Sends an answer of Ollama's API: line by line as it is made, or in one piece.
// A stream's status is sent with its first line, so that what goes wrong before
// is a proper error.
//
// Thread rule: called on the loop, as any AnswerSink, but for constructor and
// wait().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "server/api/ollama_reply.h"
#include "server/api/sign_of_life.h"
#include "server/http/http.h"
#include "server/job.h"
#include "server/loop.h"

namespace mlx_flash::server {

class OllamaStream : public AnswerSink,
                     public std::enable_shared_from_this<OllamaStream> {
 public:
  // After `silence_seconds` without a line, a sign of life is sent.
  OllamaStream(
      std::shared_ptr<HttpExchange> exchange,
      std::shared_ptr<OllamaReply> reply,
      Loop& loop,
      double silence_seconds,
      std::function<double()> now = now_seconds);

  // The client waits from here on. A shared_ptr must hold this already.
  void wait();

  void on_progress(const PromptProgress& progress) override;
  void on_part(size_t choice, AnswerPart part) override;
  void on_choice_end(size_t choice, const ChoiceEnd& end) override;
  void on_end(const Usage& usage, const Timings& timings) override;
  void on_error(const ApiError& error) override;

 private:
  void write_line(std::string line);
  void write_call();

  const std::shared_ptr<HttpExchange> exchange_;
  const std::shared_ptr<OllamaReply> reply_;
  bool begun_ = false;
  std::optional<PromptProgress> progress_;
  // The call that is being generated: its line needs all of its arguments.
  std::optional<ToolCall> call_;
  size_t calls_ = 0; // written
  ChoiceEnd end_;
  SignOfLife sign_of_life_;
};

// Sends an answer when it is complete.
std::shared_ptr<AnswerSink> make_whole_ollama_answer(
    std::shared_ptr<HttpExchange> exchange,
    std::shared_ptr<OllamaReply> reply);

} // namespace mlx_flash::server
