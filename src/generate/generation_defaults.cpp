#include "generate/generation_defaults.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace mlx_flash {

namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = 1 << 20;

// Messages quote what the file says, but not a megabyte of it.
std::string shorten(std::string text) {
  constexpr size_t kMost = 160;
  if (text.size() > kMost) {
    text.resize(kMost);
    text += "...";
  }
  return text;
}

// One file's JSON object; its fields, checked.
class Fields {
 public:
  Fields(std::string_view text, const char* file) : file_(file) {
    if (text.empty()) {
      return;
    }
    try {
      object_ = json::parse(text);
    } catch (const json::exception& e) {
      fail(
          ErrorCode::bad_model,
          "[{}] is no valid JSON: {}",
          file_,
          shorten(e.what()));
    }
    if (!object_.is_object()) {
      fail(
          ErrorCode::bad_model,
          "[{}] holds a JSON {} instead of an object",
          file_,
          object_.type_name());
    }
  }

  // Null when the field is absent or null.
  const json* find(const char* field) const {
    const auto it = object_.find(field);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  bool boolean(const char* field) const {
    const json* value = find(field);
    if (value != nullptr && !value->is_boolean()) {
      refuse(field, *value, "must be true or false");
    }
    return value != nullptr && value->get<bool>();
  }

  float number(
      const char* field,
      float absent,
      float least,
      float most,
      const char* range) const {
    const json* value = find(field);
    if (value == nullptr) {
      return absent;
    }
    // In double, which holds every JSON number that the parser lets pass.
    const double number = value->is_number() ? value->get<double>() : -1;
    if (!(number >= least && number <= most)) {
      refuse(field, *value, range);
    }
    return static_cast<float>(number);
  }

  uint64_t count(const char* field, uint64_t least, uint64_t most) const {
    const json* value = find(field);
    if (value == nullptr) {
      return 0;
    }
    if (!value->is_number_unsigned() || value->get<uint64_t>() < least ||
        value->get<uint64_t>() > most) {
      refuse(
          field,
          *value,
          fmt::format("must be a whole number from {} to {}", least, most));
    }
    return value->get<uint64_t>();
  }

  std::vector<TokenId> tokens(const char* field) const {
    std::vector<TokenId> ids;
    const json* value = find(field);
    if (value == nullptr) {
      return ids;
    }
    const auto add = [&](const json& id) {
      if (!id.is_number_unsigned() ||
          id.get<uint64_t>() > std::numeric_limits<TokenId>::max()) {
        refuse(field, id, "must be a token id, or a list of them");
      }
      ids.push_back(id.get<TokenId>());
    };
    if (value->is_array()) {
      std::for_each(value->begin(), value->end(), add);
    } else {
      add(*value);
    }
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  }

 private:
  [[noreturn]] void
  refuse(const char* field, const json& value, const std::string& range) const {
    const std::string shown = value.is_structured()
        ? value.type_name()
        : value.dump(-1, ' ', true, json::error_handler_t::replace);
    fail(
        ErrorCode::bad_model,
        "[{}] {} is {}; it {}",
        file_,
        field,
        shorten(shown),
        range);
  }

  const char* file_;
  json object_ = json::object();
};

SamplingOptions sampling_of(const Fields& fields) {
  SamplingOptions result;
  if (!fields.boolean("do_sample")) {
    return result;
  }
  constexpr float kMost = std::numeric_limits<float>::max();
  constexpr float kLeast = std::numeric_limits<float>::min();
  result.temperature =
      fields.number("temperature", 1, 0, kMost, "must be at least 0");
  const uint64_t top_k =
      fields.count("top_k", 0, std::numeric_limits<uint64_t>::max());
  result.top_k = static_cast<int>(
      std::min<uint64_t>(top_k, std::numeric_limits<int>::max()));
  const float top_p = fields.number("top_p", 1, 0, kMost, "must be at least 0");
  result.top_p = std::min(top_p, 1.0f);
  result.min_p = fields.number("min_p", 0, 0, 1, "must be between 0 and 1");
  result.repetition_penalty =
      fields.number("repetition_penalty", 1, kLeast, kMost, "must be above 0");
  return result;
}

} // namespace

GenerationDefaults parse_generation_defaults(
    std::string_view generation_config,
    std::string_view config) {
  if (generation_config.size() > kMaxBytes) {
    fail(
        ErrorCode::bad_model,
        "[generation_config.json] is {} bytes long, over the {} allowed",
        generation_config.size(),
        kMaxBytes);
  }
  const Fields fields(generation_config, "generation_config.json");
  GenerationDefaults result;
  result.eos_tokens = fields.tokens("eos_token_id");
  if (fields.find("eos_token_id") == nullptr) {
    result.eos_tokens = Fields(config, "config.json").tokens("eos_token_id");
  }
  result.sampling = sampling_of(fields);
  result.max_new_tokens =
      fields.count("max_new_tokens", 1, std::numeric_limits<int64_t>::max());
  return result;
}

} // namespace mlx_flash
