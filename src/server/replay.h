// What was sampled, so that a conversation that is sent back becomes the same
// tokens again: text that a model has generated is rarely what its tokenizer
// makes of it, and only the same tokens find their keys and values in the
// prompt cache.
//
// Prompts are known by length and hash. A prompt that goes on where an earlier
// one was answered, and says what the answer said, is that prompt's tokens, the
// answer's, and those of what follows.
//
// Thread rule: all methods from any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/chat.h"
#include "parse/answer_parser.h"

namespace mlx_flash::server {

// How a conversation's answers are written; must outlive the call.
struct AnswerReading {
  const parse::AnswerForm& form;
  std::span<const parse::ToolSignature> tools;
};

class Replay {
 public:
  // The least recently used go when there are more.
  Replay(size_t most_answers, size_t most_bytes);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // The tokens of a rendered prompt of `model`.
  std::vector<TokenId> encode(
      const std::string& model,
      const Text& text,
      const std::string& prompt,
      const AnswerReading& reading);

  // Remembers what was answered. `end_piece` is the text of the token that
  // ends the model's turns.
  void store(
      const std::string& model,
      const std::string& prompt,
      std::vector<TokenId> prompt_tokens,
      std::string answer,
      std::vector<TokenId> answer_tokens,
      std::string end_piece);

  size_t size() const; // answers
  size_t bytes() const;

 private:
  struct Entry;
  using EntryPtr = std::shared_ptr<const Entry>;
  struct Key {
    size_t length = 0; // of the prompt, in bytes
    uint64_t high = 0; // of its hash
    uint64_t low = 0;
    auto operator<=>(const Key&) const = default;
  };

  std::vector<EntryPtr> find_beginnings(
      const std::string& model,
      std::string_view prompt);
  void touch(const EntryPtr& entry);
  void forget_oldest();
  std::vector<size_t> lengths(size_t most) const;

  const size_t most_answers_;
  const size_t most_bytes_;
  // Nobody can look for prompts of the same hash without knowing it.
  const uint64_t seed_;

  mutable std::mutex mutex_;
  std::list<EntryPtr> by_use_; // the most recent first
  std::multimap<Key, std::list<EntryPtr>::iterator> by_prompt_;
  size_t bytes_ = 0;
};

} // namespace mlx_flash::server
