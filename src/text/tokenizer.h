// Any Hugging Face tokenizer.json: text to token ids and back.
//
// Thread rule: immutable after construction; all methods may be called from
// any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct TfTokenizer; // text-ffi

namespace mlx_flash {

using TokenId = uint32_t;

class Tokenizer {
 public:
  // Throws Error(bad_model) with the reason when `json` is no tokenizer.
  // `source` is named in messages.
  // Of a file, at most.
  static constexpr uint64_t kMaxBytes = 128ull << 20;

  static Tokenizer from_json(std::string_view json, const std::string& source);
  // Throws Error(not_found) too.
  static Tokenizer from_file(const std::filesystem::path& path);

  // `add_special` adds what the tokenizer's post-processor adds (such as a
  // beginning-of-text token); special tokens written in `text` are recognised
  // either way. Text that is not UTF-8, or would be longer than 64 MB on its
  // way to ids, is an Error(invalid_argument). While it runs this takes up to
  // 200 bytes for each byte of `text`.
  std::vector<TokenId> encode(std::string_view text, bool add_special) const;

  // Text of `ids`, with U+FFFD where bytes do not form a character. An id
  // outside the vocabulary is an Error(invalid_argument).
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;

  // The vocabulary's own spelling of `id`, such as "Ġthe"; empty for an
  // unused id.
  std::string piece(TokenId id) const;
  // What `id` adds to a text when it is not the first, such as " the", or a
  // part of a character; empty for an unused id.
  std::string bytes(TokenId id) const;
  // The id of a vocabulary entry or added token; empty when there is none.
  std::optional<TokenId> find(std::string_view piece) const;

  // Ids are below this.
  size_t vocab_size() const;

  const TfTokenizer* handle() const {
    return handle_.get();
  }

 private:
  explicit Tokenizer(std::shared_ptr<TfTokenizer> handle)
      : handle_(std::move(handle)) {}
  std::shared_ptr<TfTokenizer> handle_;
};

} // namespace mlx_flash
