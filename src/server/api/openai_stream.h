// Streams of OpenAI's dialect: chunks, signs of life while there are none, and
// one of two ends. What a chunk says of a choice is up to each route
// (openai_chat_answer.h, openai_completions_answer.h).
//
// The response begins with the first that is written. So what goes wrong before
// is an answer with a status of its own.
//
// Thread rule: the loop, but for make().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "server/api/openai_common.h"
#include "server/api/openai_fields.h"
#include "server/api/sign_of_life.h"
#include "server/http/http.h"
#include "server/job.h"

namespace mlx_flash::server {

class OpenAiStream {
 public:
  // Signs of life come from here on, as comments. `now` is in seconds.
  static std::shared_ptr<OpenAiStream> make(
      std::shared_ptr<HttpExchange> exchange,
      Loop& loop,
      double keep_alive_seconds,
      std::function<double()> now = now_seconds);

  void write(const nlohmann::ordered_json& chunk);
  const std::shared_ptr<HttpExchange>& exchange() const {
    return exchange_;
  }
  // For the next signs of life.
  void set_progress(const PromptProgress& progress);

  // Ends. After an error there is no [DONE], for nothing is.
  void fail(const ApiError& error);
  void finish();

 private:
  OpenAiStream(
      std::shared_ptr<HttpExchange> exchange,
      Loop& loop,
      double keep_alive_seconds,
      std::function<double()> now);
  void write_text(std::string text);
  void end();

  const std::shared_ptr<HttpExchange> exchange_;
  SignOfLife life_;
  PromptProgress progress_;
  bool begun_ = false;
};

// What the sinks of streams have in common: all but on_start() and on_part().
class ChunkSink : public AnswerSink {
 public:
  ~ChunkSink() override;
  void on_progress(const PromptProgress& progress) override;
  void on_choice_end(size_t choice, const ChoiceEnd& end) override;
  void on_end(const Usage& usage, const Timings& timings) override;
  void on_error(const ApiError& error) override;

 protected:
  using Json = nlohmann::ordered_json;

  // `object` is what its chunks are, such as "chat.completion.chunk".
  ChunkSink(
      AnswerHead head,
      const char* object,
      const StreamWishes& wishes,
      size_t choices,
      std::shared_ptr<OpenAiStream> stream);

  // One that adds nothing, with a "finish_reason" that is null.
  virtual Json empty_choice(size_t index) const = 0;

  size_t choices() const {
    return choices_;
  }
  void set_model(const std::string& name) {
    head_.model = name;
  }
  void write(Json choice);

 private:
  Json make_chunk(Json choices) const;

  AnswerHead head_;
  const char* const object_;
  const StreamWishes wishes_;
  const size_t choices_;
  const std::shared_ptr<OpenAiStream> stream_;
  std::optional<double> reading_since_; // of the prompt
  size_t ended_ = 0;
  std::unique_ptr<Json> last_; // chunk, which waits for the timings
};

} // namespace mlx_flash::server
