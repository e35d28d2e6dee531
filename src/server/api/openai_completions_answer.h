// Answers of OpenAI's POST /v1/completions: sinks that write a stream of
// chunks, or one object at the end; and what makes one answer of the answers to
// several prompts.
//
// Thread rule: sinks as AnswerSink; the rest are pure functions.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/api/answer_collector.h"
#include "server/api/openai_common.h"
#include "server/api/openai_completions.h"
#include "server/api/openai_stream.h"

namespace mlx_flash::server {

struct CompletionForm {
  AnswerHead head{};
  CompletionWishes wishes{};
  // As they were sent; empty for those that were tokens.
  std::vector<std::string> prompts{};

  size_t choices() const {
    return prompts.size() * wishes.choices;
  }
};

// Sinks of all choices of all prompts, in the order of the prompts.
std::shared_ptr<AnswerSink> make_completion_stream(
    const CompletionForm& form,
    std::shared_ptr<OpenAiStream> stream);
std::shared_ptr<AnswerSink> make_completion_collector(
    const CompletionForm& form,
    std::shared_ptr<HttpExchange> exchange);

// A sink for the job of each prompt. They tell `all` of one answer: with `echo`
// its choices begin with their prompts; it ends when all have ended, or with
// the first error. Then `fail` is called, too, and the others are heard no
// more.
std::vector<std::shared_ptr<AnswerSink>> join_completions(
    const CompletionForm& form,
    std::shared_ptr<AnswerSink> all,
    std::function<void()> fail);

// A whole answer.
nlohmann::ordered_json completion_object(
    const CompletionForm& form,
    const CollectedAnswer& answer);

} // namespace mlx_flash::server
