// An AnswerSink for whoever sends an answer in one piece: it keeps what comes
// and hands it over at the end. Streams are each dialect's own.
//
// Thread rule: called on the loop, as any AnswerSink.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/api/held_logprobs.h"
#include "server/job.h"

namespace mlx_flash::server {

// Reasoning comes first, calls where call_places says.
struct CollectedChoice {
  std::string reasoning{};
  std::string content{};
  std::vector<ToolCall> tool_calls{};
  std::vector<size_t> call_places{}; // bytes of content before each of them
  // Those of the content alone: log-probabilities are told of it.
  std::vector<TokenText> tokens{};
  ChoiceEnd end{};
};

struct CollectedAnswer {
  JobStart start{};
  std::vector<CollectedChoice> choices{};
  Usage usage{};
  Timings timings{};
};

class AnswerCollector : public AnswerSink {
 public:
  // One of both is called, once. `choices` is the job's.
  AnswerCollector(
      size_t choices,
      const std::shared_ptr<HttpExchange>& exchange,
      std::function<void(CollectedAnswer)> done,
      std::function<void(const ApiError&)> failed);

  void on_scoring(uint64_t tokens, uint64_t candidates) override;
  void on_start(const JobStart& start) override;
  void on_part(size_t choice, AnswerPart part) override;
  void on_choice_end(size_t choice, const ChoiceEnd& end) override;
  void on_end(const Usage& usage, const Timings& timings) override;
  void on_error(const ApiError& error) override;

 private:
  CollectedAnswer answer_;
  HeldLogprobs held_;
  const std::function<void(CollectedAnswer)> done_;
  const std::function<void(const ApiError&)> failed_;
};

} // namespace mlx_flash::server
