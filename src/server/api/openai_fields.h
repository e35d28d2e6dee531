// Fields that requests of OpenAI's dialect have in common, whatever their
// prompt is. Messages and tools are in openai_messages.h.
//
// All throw ApiError(invalid_request) with the field's name.
//
// Thread rule: as Fields.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

inline constexpr size_t kMostNameBytes = 256; // of models, calls, people

// temperature, top_p, presence_penalty, frequency_penalty, logit_bias, seed;
// and, not OpenAI's, top_k, min_p, repetition_penalty or repeat_penalty.
SamplingWishes read_sampling(Fields& fields, const ServerLimits& limits);

// stop: up to four, as OpenAI has it.
std::vector<std::string> read_stop_strings(
    Fields& fields,
    const ServerLimits& limits);

// max_tokens or max_completion_tokens, `least` or more.
std::optional<uint64_t>
read_max_tokens(Fields& fields, const ServerLimits& limits, uint64_t least = 1);

// n.
uint64_t read_choices(Fields& fields, const ServerLimits& limits);

// response_format; and, not OpenAI's, one of guided_json, guided_regex,
// guided_choice, guided_grammar, structured_outputs (vLLM), json_schema, regex
// and grammar. Grammars are Lark, as llguidance reads them. A grammar is not
// looked into here: whoever compiles it says what is wrong. Sets the job's
// constraint and constraint_field.
void read_constraint(Fields& fields, const ServerLimits& limits, Job& job);

struct StreamWishes {
  bool stream = false;
  bool include_usage = false; // stream_options.include_usage
  bool return_progress = false; // llama.cpp's: chunks with prompt_progress
};
StreamWishes read_stream_wishes(Fields& fields);

// Those that are for OpenAI's accounts, its caches and its statistics: they
// say nothing about the answer.
void accept_harmless(Fields& fields);

} // namespace mlx_flash::server
