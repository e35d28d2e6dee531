#include "models/config_reader.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mlx_flash {

using Json = nlohmann::json;

struct ConfigReader::Values {
  Json json;

  const Json* find(const char* key) const {
    const auto found = json.find(key);
    return found == json.end() || found->is_null() ? nullptr : &*found;
  }
};

namespace {

[[noreturn]] void wrong(const char* key, const std::string& expected) {
  fail(
      ErrorCode::bad_model,
      "[config] config.json: '{}' must be {}",
      key,
      expected);
}

bool in_range(const Json& value, int64_t least, int64_t most) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number <= static_cast<uint64_t>(most) &&
        (least <= 0 || number >= static_cast<uint64_t>(least));
  }
  return value.is_number_integer() && value.get<int64_t>() >= least &&
      value.get<int64_t>() <= most;
}

std::string range(int64_t least, int64_t most) {
  return fmt::format("an integer from {} to {}", least, most);
}

} // namespace

ConfigReader::ConfigReader(const std::string& json)
    : values_(std::make_unique<Values>()) {
  values_->json = Json::parse(json, nullptr, false);
  if (!values_->json.is_object()) {
    fail(ErrorCode::bad_model, "[config] config.json is not a JSON object");
  }
}

ConfigReader::ConfigReader(std::unique_ptr<Values> values)
    : values_(std::move(values)) {}

ConfigReader::~ConfigReader() = default;

ConfigReader::ConfigReader(ConfigReader&& other) noexcept = default;

ConfigReader ConfigReader::object(const char* key) const {
  auto values = std::make_unique<Values>();
  values->json = Json::object();
  if (const Json* value = values_->find(key)) {
    if (!value->is_object()) {
      wrong(key, "an object");
    }
    values->json = *value;
  }
  return ConfigReader(std::move(values));
}

bool ConfigReader::has(const char* key) const {
  return values_->find(key) != nullptr;
}

std::string ConfigReader::text(const char* key) const {
  const Json* value = values_->find(key);
  if (!value || !value->is_string()) {
    wrong(key, "a string");
  }
  return value->get<std::string>();
}

int64_t ConfigReader::integer(
    const char* key,
    int64_t least,
    int64_t most,
    std::optional<int64_t> fallback) const {
  const Json* value = values_->find(key);
  if (!value && fallback && *fallback >= least && *fallback <= most) {
    return *fallback;
  }
  if (!value || !in_range(*value, least, most)) {
    wrong(key, range(least, most));
  }
  return value->get<int64_t>();
}

double ConfigReader::number(
    const char* key,
    double least,
    double most,
    std::optional<double> fallback) const {
  const Json* value = values_->find(key);
  if (!value && fallback) {
    return *fallback;
  }
  // Written so that NaN fails.
  if (!value || !value->is_number() ||
      !(value->get<double>() >= least && value->get<double>() <= most)) {
    wrong(key, fmt::format("a number from {} to {}", least, most));
  }
  return value->get<double>();
}

bool ConfigReader::boolean(const char* key, bool fallback) const {
  const Json* value = values_->find(key);
  if (!value) {
    return fallback;
  }
  if (!value->is_boolean()) {
    wrong(key, "true or false");
  }
  return value->get<bool>();
}

std::vector<int64_t>
ConfigReader::integers(const char* key, int64_t least, int64_t most) const {
  std::vector<int64_t> numbers;
  const Json* value = values_->find(key);
  if (!value) {
    return numbers;
  }
  if (!value->is_array()) {
    wrong(key, "a list of integers");
  }
  for (const Json& item : *value) {
    if (!in_range(item, least, most)) {
      wrong(key, "a list, each item " + range(least, most));
    }
    numbers.push_back(item.get<int64_t>());
  }
  return numbers;
}

} // namespace mlx_flash
