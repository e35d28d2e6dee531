// What to generate and what came out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/stats.h"

namespace mlx_flash {

using TokenId = uint32_t;

// Applied in this order: repetition penalty, temperature, top-k, top-p,
// min-p. The defaults change nothing.
struct SamplingOptions {
  float temperature = 0; // 0: the most probable token, always
  int top_k = 0; // 0: all
  float top_p = 1;
  float min_p = 0;
  // Logits of tokens that occurred are divided (if positive) or multiplied by
  // this (Keskar et al., "CTRL", 2019).
  float repetition_penalty = 1;
  uint64_t seed = 0;
};

// Throws Error(invalid_argument) that names the field and its range.
void validate(const SamplingOptions& options);

enum class FinishReason {
  stop, // an end token or a stop string
  length, // max_tokens, or the context is full
  cancelled,
};
// "stop", "length", "cancelled".
const char* finish_reason_name(FinishReason reason);

struct GenerationOptions {
  SamplingOptions sampling;
  uint64_t max_tokens = 256;
  // In addition to the model's own end tokens. The text ends before the first
  // stop string; a stop token is not part of the text.
  std::vector<std::string> stop_strings;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false; // do not end at the model's end tokens
  // Constrains the text when not empty: a JSON schema.
  std::string json_schema;
};

// Throws Error(invalid_argument) for what is wrong without knowing the model.
void validate(const GenerationOptions& options);

struct GenerationResult {
  std::string text;
  std::vector<TokenId> tokens; // without a stop token at the end
  uint64_t prompt_tokens = 0;
  FinishReason finish_reason = FinishReason::stop;
};

// Called on the thread that called generate(), for each piece of text as it
// becomes certain. Return false to cancel.
using OnText = std::function<bool(std::string_view text)>;

// Token log-probabilities of a given text.
struct ScoreResult {
  std::vector<TokenId> ids;
  // Of ids[i] given ids[0 .. i - 1]; the first has none, so this is one
  // shorter than ids, and logprobs[i - 1] belongs to ids[i].
  std::vector<double> logprobs;
  // The most probable tokens at the same positions, best first.
  struct Candidate {
    TokenId id;
    double logprob;
  };
  std::vector<std::vector<Candidate>> top;
  double perplexity = 0; // exp of the mean of -logprobs
};

} // namespace mlx_flash
