// What becomes of a request's logits: the next token, its text, and whether it
// was the last; or the log-probabilities of a score; or the logits themselves.
// And of its states: an embedding.
//
// Thread rule: the engine thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/tokenizer.h"

namespace mlx_flash {

struct AnswersSetup {
  int vocab = 0;
  const Tokenizer* tokenizer = nullptr; // null: no text, ids alone
  std::vector<TokenId> end_tokens;
  uint64_t result_bytes = 0; // memory for the candidates of scores
  EmbeddingForm embedding{};
};

class Answers {
 public:
  explicit Answers(AnswersSetup setup) : setup_(std::move(setup)) {}

  // Before the request's first step. Throws Error(invalid_argument |
  // unsupported) for what it asks for and cannot have.
  void start(Request& request);

  // The logits behind the request's token at `position` of its sequence.
  // Throws Error.
  void take_row(Request& request, size_t position, std::span<float> logits);

  // The state behind the token of an embedding that is at `position`.
  // Throws Error.
  void take_state(
      Request& request,
      size_t position,
      std::span<const float> state) const;

  // Ends a generation, with the text that was held back.
  void end_generation(Request& request, FinishReason reason);

 private:
  void start_generation(Request& request);
  void start_embedding(Request& request) const;
  void require_in_vocabulary(TokenId id, const char* what) const;
  void check_results(const Request& request) const;
  void next_token(Request& request, std::span<float> logits);
  void allow_all_ends();
  ChosenToken describe(TokenId token, const GenerationOptions& options) const;
  void emit(
      Request& request,
      const std::string& text,
      std::span<const ChosenToken> tokens);
  void tell(
      Request& request,
      const std::string& text,
      std::span<const ChosenToken> tokens);
  void score_row(Request& request, size_t position, std::span<float> logits);

  const AnswersSetup setup_;
  std::vector<uint32_t> mask_;
  std::vector<float> original_; // logits, where log-probabilities are wanted
  const std::shared_ptr<SamplerScratch> scratch_ =
      std::make_shared<SamplerScratch>();
};

} // namespace mlx_flash
