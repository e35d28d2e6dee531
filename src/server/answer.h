// One answer of a job: from what its listener heard to parts, and in the end
// to why it ended. Who tells whom is up to generation_run.h.
//
// Thread rule: the loop.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "parse/answer_parser.h"
#include "server/answer_tokens.h"
#include "server/job.h"
#include "server/prompt.h"

namespace mlx_flash::server {

// A token with its text and those that were likely too. Without a tokenizer,
// texts are empty.
TokenText describe_token(const Text& text, const ChosenToken& token);

class Answer : private parse::AnswerEvents {
 public:
  struct Setup {
    std::shared_ptr<const Prompt> prompt;
    bool may_call_tools = false;
    const Text* text = nullptr; // for log-probabilities; null: without
    uint64_t seed = 0; // of the ids of calls
  };
  explicit Answer(Setup setup);

  // Parts that have become certain with this.
  std::vector<AnswerPart> push(
      std::string_view text,
      std::span<const ChosenToken> tokens);
  // The answer is over: parts that were held back.
  std::vector<AnswerPart> finish(const GenerationResult& result);

  // After finish().
  const ChoiceEnd& end() const {
    return end_;
  }
  // So far.
  uint64_t completion_tokens() const {
    return end_.completion_tokens;
  }

 private:
  void on_reasoning(std::string_view text) override;
  void on_content(std::string_view text) override;
  void on_call(std::string_view name) override;
  void on_arguments(std::string_view json_part) override;
  void on_call_end() override {}

  void add_text(AnswerPart::Kind kind, std::string_view text);
  AnswerPart& part_of(AnswerPart::Kind kind);
  std::string new_call_id();

  const Setup setup_;
  // Empty where all is content.
  std::optional<parse::AnswerParser> parser_;
  std::optional<AnswerTokens> tokens_; // with log-probabilities
  Rng random_;
  size_t calls_ = 0;
  std::vector<AnswerPart> parts_; // not told yet
  ChoiceEnd end_;
};

} // namespace mlx_flash::server
