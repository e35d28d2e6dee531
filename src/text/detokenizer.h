// Token ids to text as they are generated: push() returns the text that has
// become certain, which is empty while a character is incomplete. Everything
// that push() and flush() return, joined, equals Tokenizer::decode of all the
// ids, and each piece is valid UTF-8.
//
// What a push costs does not grow with the text. How long a text stays
// uncertain depends on the tokenizer's decoder: byte-level ones hold back up to
// three bytes; ones with byte tokens ("<0xE4>") hold back a run of those until
// another token follows, because one bad byte in it changes all of the run.
//
// Thread rule: one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "text/tokenizer.h"

struct TfDecodeStream; // text-ffi

namespace mlx_flash {

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true);

  // An id outside the vocabulary is an Error(invalid_argument).
  std::string push(TokenId id);
  // What is left at the end: an incomplete character becomes U+FFFD. The next
  // push() begins a new text.
  std::string flush();

 private:
  std::unique_ptr<TfDecodeStream, void (*)(TfDecodeStream*)> stream_;
};

} // namespace mlx_flash
