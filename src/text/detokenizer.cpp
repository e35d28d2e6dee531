#include "text/detokenizer.h"

#include "text/ffi_result.h"

namespace mlx_flash {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special)
    : stream_(nullptr, &tf_decode_stream_free) {
  FfiCall call;
  stream_.reset(
      tf_decode_stream_new(tokenizer.handle(), skip_special, call.error()));
  call.check("detokenizer");
}

std::string Detokenizer::push(TokenId id) {
  FfiCall call;
  const TfBytes text = tf_decode_stream_push(stream_.get(), id, call.error());
  call.check("detokenizer");
  return take_text(text);
}

std::string Detokenizer::flush() {
  FfiCall call;
  const TfBytes text = tf_decode_stream_finish(stream_.get(), call.error());
  call.check("detokenizer");
  return take_text(text);
}

} // namespace mlx_flash
