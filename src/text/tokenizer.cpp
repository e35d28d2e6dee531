#include "text/tokenizer.h"

#include "base/error.h"
#include "base/read_file.h"
#include "text/ffi_result.h"

namespace mlx_flash {

namespace {

// The largest known files have 35 MB.

} // namespace

Tokenizer Tokenizer::from_json(
    std::string_view json,
    const std::string& source) {
  FfiCall call;
  TfTokenizer* handle =
      tf_tokenizer_new(json.data(), json.size(), call.error());
  call.check("tokenizer", "in " + source);
  return Tokenizer(std::shared_ptr<TfTokenizer>(handle, &tf_tokenizer_free));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json(read_file(path, kMaxBytes), path.string());
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special)
    const {
  FfiCall call;
  const TfIds ids = tf_encode(
      handle_.get(), text.data(), text.size(), add_special, call.error());
  call.check("tokenizer");
  return take_ids(ids);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special)
    const {
  FfiCall call;
  const TfBytes text = tf_decode(
      handle_.get(), ids.data(), ids.size(), skip_special, call.error());
  call.check("tokenizer");
  return take_text(text);
}

std::string Tokenizer::piece(TokenId id) const {
  FfiCall call;
  const TfBytes piece = tf_token_to_piece(handle_.get(), id, call.error());
  call.check("tokenizer");
  return take_text(piece);
}

std::string Tokenizer::bytes(TokenId id) const {
  FfiCall call;
  const TfBytes bytes = tf_token_to_bytes(handle_.get(), id, call.error());
  call.check("tokenizer");
  return take_text(bytes);
}

std::optional<TokenId> Tokenizer::find(std::string_view piece) const {
  FfiCall call;
  const int64_t id =
      tf_token_to_id(handle_.get(), piece.data(), piece.size(), call.error());
  call.check("tokenizer");
  if (id < 0) {
    return std::nullopt;
  }
  return static_cast<TokenId>(id);
}

size_t Tokenizer::vocab_size() const {
  return tf_vocab_size(handle_.get());
}

} // namespace mlx_flash
