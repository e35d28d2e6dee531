// The JSON objects that answers of Ollama's API consist of: one for each line
// of a stream, or one for all. Who sends them when is ollama_stream.h.
//
// Clients read every line as such an object, so a sign of life is one too, with
// an empty text. It has a `progress` beside the fields of Ollama's own, which
// clients skip.
//
// Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/api/answer_collector.h"
#include "server/api/ollama_request.h"
#include "server/job.h"

namespace mlx_flash::server {

using WallClock = std::function<std::chrono::system_clock::time_point()>;

class OllamaReply {
 public:
  // `model` is what the request calls it.
  OllamaReply(
      OllamaKind kind,
      std::string model,
      WallClock clock = std::chrono::system_clock::now);

  // Time that was spent on loading the model before the job was started.
  void add_load_seconds(double seconds);

  // Objects without a line end. Texts are what the model wrote; tokens may be
  // parts of characters, and are shown with marks in their place.
  std::string content(
      const std::string& text,
      const std::vector<TokenText>& tokens) const;
  std::string thinking(const std::string& text) const;
  // `index` counts the calls of an answer.
  std::string tool_call(const ToolCall& call, size_t index) const;
  std::string sign_of_life(const std::optional<PromptProgress>& progress) const;
  // The last one.
  std::string
  end(const ChoiceEnd& end, const Usage& usage, const Timings& timings) const;
  // All in one. Of its one choice.
  std::string whole(const CollectedAnswer& answer) const;
  // Nothing was generated: "load" or "unload".
  std::string done(const char* reason) const;

 private:
  const OllamaKind kind_;
  const std::string model_;
  const WallClock clock_;
  double load_seconds_ = 0;
};

} // namespace mlx_flash::server
