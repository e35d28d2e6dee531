#include "text/chat_template.h"

#include <filesystem>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"
#include "text/ffi_result.h"

namespace mlx_flash {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr uint64_t kMaxFileBytes = 16ull << 20;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// An empty object when there is no such file.
json read_json_object(const fs::path& path) {
  if (!is_there(path)) {
    return json::object();
  }
  json value = json::parse(
      read_file(path, kMaxFileBytes), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    fail(
        ErrorCode::bad_model,
        "[chat template] {} is not a JSON object; get the file anew",
        path.string());
  }
  return value;
}

// "chat_template" is a text, or a list of {"name", "template"} with an entry
// "default".
std::optional<std::string> template_of(const json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) {
    return std::nullopt;
  }
  if (found->is_string()) {
    return found->get<std::string>();
  }
  if (!found->is_array()) {
    return std::nullopt;
  }
  for (const json& entry : *found) {
    if (entry.is_object() && entry.value("name", json()) == "default" &&
        entry.value("template", json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

// "<s>" or {"content": "<s>", ...}.
std::optional<std::string> token_text(const json& token) {
  if (token.is_string()) {
    return token.get<std::string>();
  }
  if (token.is_object() && token.value("content", json()).is_string()) {
    return token["content"].get<std::string>();
  }
  return std::nullopt;
}

} // namespace

ChatTemplate ChatTemplate::from_source(
    std::string_view source,
    const std::string& name) {
  FfiCall call;
  TfTemplate* handle =
      tf_template_new(source.data(), source.size(), call.error());
  call.check("chat template", "in " + name);
  return ChatTemplate(
      std::shared_ptr<TfTemplate>(handle, &tf_template_free),
      std::string(source));
}

std::optional<ChatTemplate> ChatTemplate::from_model_folder(
    const std::string& folder) {
  const fs::path jinja = fs::path(folder) / "chat_template.jinja";
  if (is_there(jinja)) {
    return from_source(read_file(jinja, kMaxFileBytes), jinja.string());
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const fs::path path = fs::path(folder) / name;
    if (const auto source = template_of(read_json_object(path))) {
      return from_source(*source, path.string());
    }
  }
  return std::nullopt;
}

std::string ChatTemplate::render(std::string_view context_json, int64_t now)
    const {
  FfiCall call;
  const TfBytes text = tf_template_render(
      handle_.get(),
      context_json.data(),
      context_json.size(),
      now,
      call.error());
  call.check("chat template");
  return take_text(text);
}

std::string special_tokens_json(const std::string& folder) {
  const json config =
      read_json_object(fs::path(folder) / "tokenizer_config.json");
  json tokens = json::object();
  for (const auto& [name, value] : config.items()) {
    if (name.ends_with("_token")) {
      if (const auto text = token_text(value)) {
        tokens[name] = *text;
      }
    }
  }
  return tokens.dump();
}

} // namespace mlx_flash
