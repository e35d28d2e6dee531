// The text side of a model: its tokenizer and its chat template. Needs no
// weights.
//
// Thread rule: immutable; all methods may be called from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/generation.h"

namespace mlx_flash {

struct Message {
  std::string role; // "system", "user", "assistant", "tool"
  std::string content;
};

class Text {
 public:
  // From a model folder: tokenizer.json and, if there, the chat template.
  static std::unique_ptr<Text> from_model(const std::filesystem::path& folder);
  // From a tokenizer.json alone.
  static std::unique_ptr<Text> from_tokenizer(
      const std::filesystem::path& file);
  virtual ~Text() = default;

  virtual std::vector<TokenId> encode(std::string_view text, bool add_special)
      const = 0;
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special)
      const = 0;
  // The vocabulary's own spelling, such as "Ġthe".
  virtual std::string piece(TokenId id) const = 0;
  // What the token adds to a text when it is not the first, such as " the";
  // maybe a part of a character.
  virtual std::string bytes(TokenId id) const = 0;
  virtual uint64_t vocab_size() const = 0;

  // Without, what needs one throws Error(not_found): such a model runs on
  // token ids alone.
  virtual bool has_tokenizer() const = 0;
  // The chat template's own text; empty for a model without.
  virtual std::string template_source() const = 0;
  // The prompt for the model's next answer. Throws Error(unsupported) when
  // the model has no chat template, and Error(invalid_argument) with the
  // template's own complaint.
  virtual std::string render_chat(std::span<const Message> messages) const = 0;
  // The same with the template's whole context, a JSON object. `now` is in
  // seconds since the epoch, shifted to local time.
  virtual std::string render_template(
      std::string_view context_json,
      int64_t now) const = 0;
};

// Renders a template by itself.
std::string render_template(
    std::string_view template_source,
    std::string_view context_json,
    int64_t now);

} // namespace mlx_flash
