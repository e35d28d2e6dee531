// Any bytes as a tokenizer.json: it loads and works on a little text, or is an
// Error. Seeds are in tests/data/fuzz/tokenizer_fuzz.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace mlx_flash {

namespace {

constexpr std::string_view kText =
    "Hello, wörld! 你好 🌍 don't  <s>x</s>\n\n 1234 a▁b\t👩";

void use(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode(kText, true);
  for (TokenId id : ids) {
    if (id >= tokenizer.vocab_size()) {
      __builtin_trap();
    }
  }
  const std::string text = tokenizer.decode(ids, false);
  Detokenizer detokenizer(tokenizer, false);
  std::string pieces;
  for (TokenId id : ids) {
    pieces += detokenizer.push(id);
    (void)tokenizer.find(tokenizer.piece(id));
  }
  if (pieces + detokenizer.flush() != text) {
    __builtin_trap();
  }
}

} // namespace

} // namespace mlx_flash

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    mlx_flash::use(mlx_flash::Tokenizer::from_json(json, "fuzz"));
  } catch (const mlx_flash::Error&) {
  }
  return 0;
}
