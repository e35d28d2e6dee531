// A model's own chat template (Jinja), rendered as Python's transformers
// render it.
//
// Thread rule: immutable after construction; render() from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct TfTemplate; // text-ffi

namespace mlx_flash {

class ChatTemplate {
 public:
  // Throws Error(bad_model) with line and reason for a malformed template.
  static ChatTemplate from_source(
      std::string_view source,
      const std::string& name);

  // The template of a model folder: chat_template.jinja, else the
  // "chat_template" of tokenizer_config.json (a string, or a list with the
  // entry "default"), else chat_template.json; empty when the folder has
  // none.
  static std::optional<ChatTemplate> from_model_folder(
      const std::string& folder);

  const std::string& source() const {
    return source_;
  }

  // `context_json` is an object: messages, tools, add_generation_prompt and
  // whatever else the template reads (bos_token, eos_token, ...). `now` is
  // what strftime_now prints: seconds since the epoch, shifted to local time.
  // Throws Error(invalid_argument) with the template's own message for
  // raise_exception and other failures.
  std::string render(std::string_view context_json, int64_t now) const;

 private:
  ChatTemplate(std::shared_ptr<TfTemplate> handle, std::string source)
      : handle_(std::move(handle)), source_(std::move(source)) {}
  std::shared_ptr<TfTemplate> handle_;
  std::string source_;
};

// The special tokens that templates read ("bos_token", "eos_token", ...) from
// the folder's tokenizer_config.json (strings or {"content": ...}) as a JSON
// object; "{}" when there are none.
std::string special_tokens_json(const std::string& folder);

} // namespace mlx_flash
