// What a request wants to have generated, in no dialect's form, and what hears
// of it. generations.h does the work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "mlx_flash/generation.h"
#include "server/api_error.h"
#include "server/conversation.h"

namespace mlx_flash::server {

// Only what a request names; the rest is the model's default.
struct SamplingWishes {
  std::optional<double> temperature{};
  std::optional<int64_t> top_k{};
  std::optional<double> top_p{};
  std::optional<double> min_p{};
  std::optional<double> repetition_penalty{};
  std::optional<double> presence_penalty{};
  std::optional<double> frequency_penalty{};
  std::vector<LogitBias> logit_bias{};
  std::optional<uint64_t> seed{}; // without: another one for each choice
};

struct ToolChoice {
  enum class Kind { automatic, none, required, named };
  Kind kind = Kind::automatic;
  std::string name{}; // of a named one
  bool parallel = true; // more than one call in an answer
};

struct Job {
  std::string request_id; // for logs
  std::string model; // as the request names it; empty: the one that is loaded

  // A conversation, a text, or a text's tokens.
  std::variant<Conversation, std::string, std::vector<TokenId>> prompt;
  SamplingWishes sampling{};
  // Without: the model's default, else what room the context leaves.
  std::optional<uint64_t> max_tokens{};
  std::vector<std::string> stop_strings{};
  bool ignore_eos = false;
  Constraint constraint{}; // of the answer, after any reasoning
  std::string constraint_field{}; // that asks for it, for errors
  ToolChoice tool_choice{};
  bool logprobs = false;
  int top_logprobs = 0;
  uint64_t choices = 1; // answers to the same prompt
  // The log-probabilities of the prompt too (completions with `echo`).
  bool score_prompt = false;
  // Ollama's: how long the model stays after this answer; empty: as configured.
  std::optional<double> keep_seconds{};
};

// A token with its text, for whoever asked for log-probabilities.
struct TokenText {
  TokenId id = 0;
  std::string bytes; // may be a part of a character
  double logprob = 0;
  std::vector<TokenText> top{}; // best first, themselves without
};

// A piece of an answer, in the order in which it is made. A call of a tool is
// one `tool_call` and then any number of `arguments`.
struct AnswerPart {
  enum class Kind { reasoning, content, tool_call, arguments };
  Kind kind = Kind::content;
  std::string text{}; // of reasoning, content or arguments (a part of JSON)
  size_t call = 0; // which call of this answer, from 0
  std::string call_id{}; // of a tool_call, new
  std::string call_name{}; // of a tool_call
  // With logprobs, those of reasoning or content.
  std::vector<TokenText> tokens{};
};

struct ChoiceEnd {
  // `cancelled` is told to nobody: whoever cancelled is gone.
  enum class Reason { stop, length, tool_calls, cancelled };
  Reason reason = Reason::stop;
  std::string stop_string{}; // the one that ended it, if one did
  uint64_t completion_tokens = 0;
  uint64_t reasoning_tokens = 0; // of these
};

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0; // of these
  uint64_t completion_tokens = 0; // of all choices
  uint64_t reasoning_tokens = 0; // of these
};

struct Timings {
  double load_seconds = 0; // waiting for the model
  double queue_seconds = 0; // waiting for room
  double prompt_seconds = 0; // from there to the first token
  double decode_seconds = 0; // from there to the last one
  double total_seconds = 0; // since the request was received
};

struct PromptProgress {
  uint64_t queue_position = 0; // requests before it; 0: its turn has come
  uint64_t prompt_tokens = 0;
  uint64_t prompt_read = 0;
  uint64_t cached_tokens = 0;
  double tokens_per_second = 0; // 0 while there is nothing to tell
  double seconds_left = 0;
};

// What the prompt is, known before anything is generated.
struct JobStart {
  std::string model; // its name
  uint64_t prompt_tokens = 0;
  // With score_prompt alone: the prompt's tokens. The first has no logprob.
  std::vector<TokenText> prompt{};
};

// Hears of a job: start, progress, parts and ends of choices, and the end; or,
// at any time, an error instead of all that would follow.
//
// Thread rule: called on the loop.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;

  // With score_prompt alone, and before: its start will come with so many
  // tokens, each with so many candidates.
  virtual void on_scoring(uint64_t tokens, uint64_t candidates) {
    (void)tokens, (void)candidates;
  }
  virtual void on_start(const JobStart& start) {
    (void)start;
  }
  virtual void on_progress(const PromptProgress& progress) {
    (void)progress;
  }
  virtual void on_part(size_t choice, AnswerPart part) = 0;
  virtual void on_choice_end(size_t choice, const ChoiceEnd& end) = 0;
  virtual void on_end(const Usage& usage, const Timings& timings) = 0;
  virtual void on_error(const ApiError& error) = 0;
};

} // namespace mlx_flash::server
