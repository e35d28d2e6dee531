// What to generate and what came out.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/stats.h"

namespace mlx_flash {

using TokenId = uint32_t;

struct TokenLogprob {
  TokenId id = 0;
  double logprob = 0;
};

struct LogitBias {
  TokenId id = 0;
  float bias = 0;
};

// Applied in this order: logit bias, repetition penalty, presence and frequency
// penalty, temperature, top-k, top-p, min-p. The defaults change nothing.
struct SamplingOptions {
  float temperature = 0; // 0: the most probable token, always
  int top_k = 0; // 0: all
  float top_p = 1;
  float min_p = 0;
  // Logits of tokens that occurred are divided (if positive) or multiplied by
  // this (Keskar et al., "CTRL", 2019).
  float repetition_penalty = 1;
  // Subtracted from the logits of tokens that were generated: once, and as
  // often as they were. The prompt does not count (as in OpenAI's API).
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::vector<LogitBias> logit_bias{}; // added to logits
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

// What a text has to be: JSON that a schema allows, a match of a regular
// expression, or a text of a Lark grammar, as llguidance reads them.
struct Constraint {
  enum class Kind { none, json_schema, regex, lark };
  Kind kind = Kind::none;
  std::string source;
};

struct GenerationOptions {
  SamplingOptions sampling;
  uint64_t max_tokens = 256;
  // In addition to the model's own end tokens. The text ends before the first
  // stop string; a stop token is not part of the text.
  std::vector<std::string> stop_strings;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false; // do not end at the model's end tokens
  Constraint constraint;
  // Of each chosen token, before sampling changes any probability, and of so
  // many of the most probable ones at its place.
  bool logprobs = false;
  int top_logprobs = 0; // at most kMostTopLogprobs
};

inline constexpr int kMostTopLogprobs = 20;

// Throws Error(invalid_argument) for what is wrong without knowing the model.
void validate(const GenerationOptions& options);

struct GenerationResult {
  std::string text;
  std::vector<TokenId> tokens; // without a stop token at the end
  uint64_t prompt_tokens = 0;
  // Of these, keys and values were there already, and were not computed again.
  uint64_t cached_tokens = 0;
  FinishReason finish_reason = FinishReason::stop;
  // What ended it, if that was one of them; both are empty after any other end.
  std::string stop_string;
  std::optional<TokenId> stop_token; // the model's own end tokens too
};

// How far an answer is that has no text yet.
struct GenerationProgress {
  // Requests before it that wait for room; 0 from when its prompt is read.
  uint64_t queue_position = 0;
  uint64_t prompt_tokens = 0;
  uint64_t prompt_read = 0; // of them, those that were cached included
  uint64_t cached_tokens = 0;
};

// Called on the thread that called generate(), for each piece of text as it
// becomes certain. Return false to cancel.
using OnText = std::function<bool(std::string_view text)>;

// A token of an answer.
struct ChosenToken {
  TokenId id = 0;
  double logprob = 0; // if logprobs were asked for
  std::vector<TokenLogprob> top{}; // best first
};

// Hears of an answer while it is made (Session::start).
//
// Thread rule: called on the engine's thread, which waits for each call: none
// may wait for anything itself.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;

  // Before the first text: when the place in the queue has changed, and after
  // each step that has read a part of the prompt.
  virtual void on_progress(const GenerationProgress& progress) {
    (void)progress;
  }
  // `text` has become certain, and `tokens` were chosen since the last call;
  // either may be empty.
  virtual void on_text(
      std::string_view text,
      std::span<const ChosenToken> tokens) = 0;
  // The last call: what came out, or why it failed.
  virtual void on_end(GenerationResult result, std::exception_ptr error) = 0;
};

// Token log-probabilities of a given text.
struct ScoreResult {
  std::vector<TokenId> ids;
  // Of ids[i] given ids[0 .. i - 1]; the first has none, so this is one
  // shorter than ids, and logprobs[i - 1] belongs to ids[i].
  std::vector<double> logprobs;
  // The most probable tokens at the same positions, best first.
  std::vector<std::vector<TokenLogprob>> top;
  double perplexity = 0; // exp of the mean of -logprobs
};

} // namespace mlx_flash
