// The public Text over tokenizer and chat template.
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/read_file.h"
#include "engine/bounded_json.h"
#include "engine/model_text.h"
#include "platform/memory_watch.h"

namespace mlx_flash {

using Json = nlohmann::ordered_json;

ModelText::ModelText(
    std::optional<Tokenizer> tokenizer,
    std::optional<ChatTemplate> chat_template,
    std::string special_tokens)
    : tokenizer_(std::move(tokenizer)),
      template_(std::move(chat_template)),
      special_tokens_(std::move(special_tokens)) {}

std::unique_ptr<ModelText> ModelText::load(
    const std::filesystem::path& folder) {
  const MemoryFollower memory;
  const auto file = folder / "tokenizer.json";
  std::optional<Tokenizer> tokenizer;
  std::error_code error;
  if (std::filesystem::exists(file, error)) {
    tokenizer = Tokenizer::from_file(file);
  }
  auto text = std::make_unique<ModelText>(
      std::move(tokenizer),
      ChatTemplate::from_model_folder(folder.string()),
      special_tokens_json(folder.string()));
  text->load_peak_bytes_ = memory.peak_bytes();
  return text;
}

const Tokenizer& ModelText::require_tokenizer() const {
  if (!tokenizer_) {
    fail(
        ErrorCode::not_found,
        "[text] this model has no tokenizer.json, so it takes token ids and no "
        "text");
  }
  return *tokenizer_;
}

std::vector<TokenId> ModelText::encode(std::string_view text, bool add_special)
    const {
  return require_tokenizer().encode(text, add_special);
}

std::string ModelText::decode(std::span<const TokenId> ids, bool skip_special)
    const {
  return require_tokenizer().decode(ids, skip_special);
}

std::string ModelText::piece(TokenId id) const {
  return require_tokenizer().piece(id);
}

std::string ModelText::bytes(TokenId id) const {
  return require_tokenizer().bytes(id);
}

uint64_t ModelText::vocab_size() const {
  return require_tokenizer().vocab_size();
}

std::string ModelText::template_source() const {
  return template_ ? template_->source() : std::string();
}

std::string ModelText::render_chat(std::span<const Message> messages) const {
  Json context{{"messages", Json::array()}, {"add_generation_prompt", true}};
  for (const Message& message : messages) {
    context["messages"].push_back(
        {{"role", message.role}, {"content", message.content}});
  }
  try {
    return render_template(context.dump(), local_now_seconds());
  } catch (const Json::exception&) {
    fail(ErrorCode::invalid_argument, "[chat] a message is not valid UTF-8");
  }
}

std::string ModelText::render_template(
    std::string_view context_json,
    int64_t now) const {
  if (!template_) {
    fail(
        ErrorCode::unsupported,
        "[chat] this model has no chat template; use --raw to continue plain "
        "text");
  }
  require_bounded_json(context_json, "[template] the context");
  Json context = Json::parse(context_json);
  if (!context.is_object()) {
    fail(
        ErrorCode::invalid_argument,
        "[template] the context must be a JSON object");
  }
  // The caller's own values win over the tokenizer's.
  const Json special = Json::parse(special_tokens_);
  for (const auto& [name, value] : special.items()) {
    if (!context.contains(name)) {
      context[name] = value;
    }
  }
  return template_->render(context.dump(), now);
}

std::unique_ptr<Text> Text::from_model(const std::filesystem::path& folder) {
  std::error_code error;
  const auto has = [&](const char* name) {
    return std::filesystem::exists(folder / name, error);
  };
  if (!std::filesystem::exists(folder, error)) {
    fail(ErrorCode::not_found, "[text] {} does not exist", folder.string());
  }
  if (!has("config.json") && !has("tokenizer.json") &&
      !has("tokenizer_config.json")) {
    fail(
        ErrorCode::not_found,
        "[text] {} is not a model folder: it has no config.json",
        folder.string());
  }
  return ModelText::load(folder);
}

std::unique_ptr<Text> Text::from_tokenizer(const std::filesystem::path& file) {
  return std::make_unique<ModelText>(
      Tokenizer::from_json(
          read_file_or_pipe(file, Tokenizer::kMaxBytes), file.string()),
      std::nullopt,
      "{}");
}

std::string render_template(
    std::string_view template_source,
    std::string_view context_json,
    int64_t now) {
  return ChatTemplate::from_source(template_source, "template")
      .render(context_json, now);
}

} // namespace mlx_flash
