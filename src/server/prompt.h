// From a job to the tokens that the model reads: renders the conversation,
// tokenizes it, and finds out how its answer will be written. What is
// generated from them is up to answer_options.h.
//
// Thread rule: a function for a worker; templates and tokenizers take time.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_flash/engine.h"
#include "parse/answer_parser.h"
#include "server/job.h"
#include "server/json_texts.h"
#include "server/replay.h"

namespace mlx_flash::server {

struct Prompt {
  std::string text{}; // as it was rendered; empty where tokens were given
  std::vector<TokenId> tokens{};
  bool is_conversation = false;
  // What the context has left for the answer; at least 1.
  uint64_t room = 0;

  // Of a conversation's answer. All other answers are content alone.
  parse::AnswerForm form{};
  bool in_reasoning = false; // it begins there
  bool may_reason = false; // or can go there
  // Whoever switched thinking off is told none of it, although some templates
  // have the model think in any case.
  bool tells_reasoning = true;
  std::vector<parse::ToolSignature> tools{}; // that the model was told of
};

// A conversation's, whether it fits or not: `room` is 0. `limits` are those of
// JSON in it. `between` is called between parts that take long, and may throw.
// Throws as make_prompt() does otherwise.
Prompt read_conversation(
    const Conversation& conversation,
    const JsonLimits& limits,
    const std::string& model,
    const Text& text,
    Replay& replay,
    const std::function<void()>& between);

// `model` is the name under which prompts are replayed; `limits` and `between`
// as above. Throws ApiError, of which code context_length_exceeded is a prompt
// that can never be answered, and what the engine's Text throws.
Prompt make_prompt(
    const Job& job,
    const JsonLimits& limits,
    const std::string& model,
    const Engine& engine,
    Replay& replay,
    const std::function<void()>& between);

} // namespace mlx_flash::server
