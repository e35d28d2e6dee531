#include "server/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "server/api_error.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

Fields::Fields(const Json& value, std::string name)
    : value_(value), name_(std::move(name)) {
  if (!value_.is_object()) {
    throw invalid_field(
        name_,
        fmt::format(
            "{} must be an object, not {}",
            name_.empty() ? "the body" : name_,
            value_.type_name()));
  }
}

std::string Fields::path(std::string_view field) const {
  return name_.empty() ? std::string(field)
                       : fmt::format("{}.{}", name_, field);
}

void Fields::reject(const char* field, const std::string& why) const {
  throw invalid_field(path(field), fmt::format("{} {}", path(field), why));
}

// Null where it is absent, or null.
const Json* Fields::find(const char* field) {
  known_.insert(field);
  const auto found = value_.find(field);
  return found == value_.end() || found->is_null() ? nullptr : &*found;
}

bool Fields::has(const char* field) const {
  const auto found = value_.find(field);
  return found != value_.end() && !found->is_null();
}

std::optional<double>
Fields::number(const char* field, double least, double most) {
  const Json* value = find(field);
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_number()) {
    reject(field, fmt::format("must be a number, not {}", value->type_name()));
  }
  const auto number = value->get<double>();
  if (!(number >= least && number <= most)) {
    reject(
        field,
        fmt::format("must be from {} to {}, not {}", least, most, number));
  }
  return number;
}

std::optional<int64_t>
Fields::integer(const char* field, int64_t least, int64_t most) {
  const Json* value = find(field);
  if (!value) {
    return std::nullopt;
  }
  const bool whole = value->is_number_integer() ||
      (value->is_number_float() &&
       std::trunc(value->get<double>()) == value->get<double>());
  if (!whole) {
    reject(
        field,
        fmt::format(
            "must be an integer, not {}",
            value->is_number() ? value->dump() : value->type_name()));
  }
  // Compared as what they are: a conversion could wrap around.
  const bool fits = value->is_number_float()
      ? std::abs(value->get<double>()) < 9e15
      : !value->is_number_unsigned() ||
          value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
  const int64_t number = !fits   ? 0
      : value->is_number_float() ? static_cast<int64_t>(value->get<double>())
                                 : value->get<int64_t>();
  if (!fits || number < least || number > most) {
    reject(
        field,
        fmt::format(
            "must be from {} to {}, not {}", least, most, value->dump()));
  }
  return number;
}

std::optional<bool> Fields::boolean(const char* field) {
  const Json* value = find(field);
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    reject(
        field,
        fmt::format("must be true or false, not {}", value->type_name()));
  }
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const char* field, size_t most_bytes) {
  const Json* value = find(field);
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    reject(field, fmt::format("must be a string, not {}", value->type_name()));
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > most_bytes) {
    reject(
        field,
        fmt::format(
            "must be at most {} bytes long, not {}", most_bytes, text.size()));
  }
  return text;
}

std::optional<std::string> Fields::word(
    const char* field,
    std::initializer_list<const char*> words) {
  const auto text = this->text(field);
  if (text && std::find(words.begin(), words.end(), *text) == words.end()) {
    reject(
        field,
        fmt::format(
            "must be one of {}, not '{}'",
            fmt::join(words, ", "),
            text->substr(0, 64)));
  }
  return text;
}

const Json* Fields::value(const char* field) {
  return find(field);
}

const Json* Fields::array(const char* field, size_t most) {
  const Json* value = find(field);
  if (value && !value->is_array()) {
    reject(field, fmt::format("must be an array, not {}", value->type_name()));
  }
  if (value && value->size() > most) {
    reject(
        field,
        fmt::format(
            "must have at most {} entries, not {}", most, value->size()));
  }
  return value;
}

const Json* Fields::object(const char* field) {
  const Json* value = find(field);
  if (value && !value->is_object()) {
    reject(field, fmt::format("must be an object, not {}", value->type_name()));
  }
  return value;
}

std::optional<std::vector<std::string>>
Fields::texts(const char* field, size_t most, size_t most_bytes) {
  const Json* value = find(field);
  if (!value) {
    return std::nullopt;
  }
  if (value->is_string()) {
    return std::vector{*text(field, most_bytes)};
  }
  array(field, most);
  std::vector<std::string> texts;
  for (const Json& each : *value) {
    if (!each.is_string()) {
      reject(
          field,
          fmt::format("must hold strings alone, not {}", each.type_name()));
    }
    if (each.get_ref<const std::string&>().size() > most_bytes) {
      reject(
          field,
          fmt::format("must hold strings of at most {} bytes", most_bytes));
    }
    texts.push_back(each.get<std::string>());
  }
  return texts;
}

std::string Fields::required_text(const char* field, size_t most_bytes) {
  const auto found = text(field, most_bytes);
  if (!found) {
    reject(field, "is missing");
  }
  return *found;
}

int64_t
Fields::required_integer(const char* field, int64_t least, int64_t most) {
  const auto found = integer(field, least, most);
  if (!found) {
    reject(field, "is missing");
  }
  return *found;
}

const Json& Fields::required_array(const char* field, size_t most) {
  const Json* found = array(field, most);
  if (!found) {
    reject(field, "is missing");
  }
  return *found;
}

void Fields::accept(std::initializer_list<const char*> fields) {
  known_.insert(fields.begin(), fields.end());
}

void Fields::refuse(
    const char* field,
    const std::string& why,
    std::initializer_list<const char*> harmless) {
  const Json* value = find(field);
  if (!value) {
    return;
  }
  for (const char* each : harmless) {
    if (*value == Json::parse(each)) {
      return;
    }
  }
  reject(field, why);
}

void Fields::done() const {
  for (const auto& [field, value] : value_.items()) {
    if (!value.is_null() && known_.find(field) == known_.end()) {
      const std::string name = path(field.substr(0, 100));
      throw invalid_field(
          name, fmt::format("{} is not a field that is known here", name));
    }
  }
}

} // namespace mlx_flash::server
