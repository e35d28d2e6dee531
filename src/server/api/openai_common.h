// What answers of OpenAI's dialect are made of, in all of its routes. What
// requests have in common is in openai_fields.h.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "server/job.h"

namespace mlx_flash::server {

// What every object of an answer begins with.
struct AnswerHead {
  std::string id; // such as "chatcmpl-12"
  std::string model; // its name
  int64_t created = 0; // seconds since the epoch
};
// With `prefix` before the request's own id, which the logs have too.
AnswerHead make_head(
    const char* prefix,
    const std::string& request_id,
    const std::string& model);

// JSON text. Never throws for what is no UTF-8.
std::string to_text(const nlohmann::ordered_json& value);

// "stop", "length" or "tool_calls".
const char* finish_reason_word(ChoiceEnd::Reason reason);

// With prompt_tokens_details.cached_tokens and
// completion_tokens_details.reasoning_tokens.
nlohmann::ordered_json usage_object(const Usage& usage);

// llama.cpp's extension: counts, milliseconds and rates of prompt and answer;
// and load_ms, queue_ms and total_ms, which are ours.
nlohmann::ordered_json timings_object(
    const Usage& usage,
    const Timings& timings);

// llama.cpp's extension: {"total", "cache", "processed", "time_ms"}, and
// queue_position and seconds_left, which are ours.
nlohmann::ordered_json progress_object(
    const PromptProgress& progress,
    double seconds);
// The same for people, on one line.
std::string progress_words(const PromptProgress& progress);

// {"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}
nlohmann::ordered_json logprobs_object(std::span<const TokenText> tokens);

// A token's bytes as text: as they are, or with \x escapes where they are a
// part of a character only.
std::string token_name(std::string_view bytes);
// Finite, for JSON knows no other numbers.
double logprob_number(double logprob);

} // namespace mlx_flash::server
