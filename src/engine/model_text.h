// A model's tokenizer and chat template behind the public Text.
//
// Thread rule: immutable.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "mlx_flash/chat.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mlx_flash {

class ModelText : public Text {
 public:
  // Without a tokenizer, what needs one throws Error(not_found): such a model
  // runs on token ids alone. `special_tokens` is a JSON object: what templates
  // may read of them.
  ModelText(
      std::optional<Tokenizer> tokenizer,
      std::optional<ChatTemplate> chat_template,
      std::string special_tokens);

  // Throws as Tokenizer::from_file and ChatTemplate.
  static std::unique_ptr<ModelText> load(const std::filesystem::path& folder);

  std::vector<TokenId> encode(std::string_view text, bool add_special)
      const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special)
      const override;
  std::string piece(TokenId id) const override;
  std::string bytes(TokenId id) const override;
  uint64_t vocab_size() const override;
  bool has_tokenizer() const override {
    return tokenizer_.has_value();
  }
  std::string template_source() const override;
  std::string render_chat(std::span<const Message> messages) const override;
  std::string render_template(std::string_view context_json, int64_t now)
      const override;

  // The process's memory while it was loaded, at its peak; 0 if unknown.
  uint64_t load_peak_bytes() const {
    return load_peak_bytes_;
  }

  // Null for a model without.
  const Tokenizer* tokenizer() const {
    return tokenizer_ ? &*tokenizer_ : nullptr;
  }

 private:
  const Tokenizer& require_tokenizer() const;

  const std::optional<Tokenizer> tokenizer_;
  const std::optional<ChatTemplate> template_;
  const std::string special_tokens_;
  uint64_t load_peak_bytes_ = 0;
};

} // namespace mlx_flash
