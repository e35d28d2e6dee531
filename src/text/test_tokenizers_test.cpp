#include "text/test_tokenizers.h"

#include <map>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace mlx_flash {

namespace {

std::string tokenizer_path(const std::string& name) {
  if (name == "demo") {
    return MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe/tokenizer.json";
  }
  return MLX_FLASH_TEST_TOKENIZERS "/" + name + ".json";
}

Tokenizer make_sentence_piece_tokenizer() {
  using nlohmann::json;
  json vocab;
  const auto add = [&](const std::string& piece) {
    vocab[piece] = vocab.size();
  };
  add("<unk>");
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
  }
  for (const char* piece : {"▁", "a", "b", "▁a", "é", "▁▁", "."}) {
    add(piece);
  }
  const json space_to_mark = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const json mark_to_space = {
      {"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const json strip = {
      {"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const json file = {
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", "▁"}}, space_to_mark}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {mark_to_space,
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          strip}}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"merges", {"▁ a", "▁ ▁"}},
        {"unk_token", "<unk>"},
        {"byte_fallback", true}}},
      {"added_tokens", {{{"content", "<s>"}, {"special", true}}}},
  };
  return Tokenizer::from_json(file.dump(), "a test");
}

} // namespace

const Tokenizer& test_tokenizer(const std::string& name) {
  static std::map<std::string, Tokenizer> tokenizers;
  const auto found = tokenizers.find(name);
  if (found != tokenizers.end()) {
    return found->second;
  }
  return tokenizers.emplace(name, Tokenizer::from_file(tokenizer_path(name)))
      .first->second;
}

const Tokenizer& sentence_piece_tokenizer() {
  static const Tokenizer tokenizer = make_sentence_piece_tokenizer();
  return tokenizer;
}

} // namespace mlx_flash
