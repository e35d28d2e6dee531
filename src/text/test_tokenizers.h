// The vocabularies that the tests of src/text read, each loaded once.
#pragma once

#include <string>

#include "text/tokenizer.h"

namespace mlx_flash {

// One of tests/data/tokenizers, such as "qwen3", or "demo", the shipped
// model's.
const Tokenizer& test_tokenizer(const std::string& name);

// A small vocabulary in the manner of SentencePiece: "▁" for a space, byte
// tokens, a leading space that decoding strips, and "<s>".
const Tokenizer& sentence_piece_tokenizer();

} // namespace mlx_flash
