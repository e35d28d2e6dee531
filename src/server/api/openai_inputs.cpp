#include "server/api/openai_inputs.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

std::vector<TokenId> read_tokens(const Json& array, const std::string& path) {
  if (array.empty()) {
    throw invalid_field(path, path + " must have one token id at least");
  }
  std::vector<TokenId> tokens;
  tokens.reserve(array.size());
  for (const Json& each : array) {
    if (!each.is_number_unsigned() || each.get<uint64_t>() > UINT32_MAX) {
      throw invalid_field(
          path, fmt::format("{}[{}] is no token id", path, tokens.size()));
    }
    tokens.push_back(each.get<TokenId>());
  }
  return tokens;
}

TextOrTokens read_input(const Json& value, const std::string& path) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (value.is_array()) {
    return read_tokens(value, path);
  }
  throw invalid_field(
      path,
      fmt::format(
          "{} must be a string or an array of token ids, not {}",
          path,
          value.type_name()));
}

} // namespace

std::vector<TextOrTokens>
read_inputs(Fields& fields, const char* field, size_t most) {
  const Json* value = fields.value(field);
  if (!value) {
    fields.reject(field, "is missing");
  }
  const std::string path = fields.path(field);
  const bool one =
      !value->is_array() || (!value->empty() && value->front().is_number());
  if (one) {
    return {read_input(*value, path)};
  }
  fields.array(field, most);
  if (value->empty()) {
    fields.reject(field, "must not be empty");
  }
  std::vector<TextOrTokens> inputs;
  for (const Json& each : *value) {
    inputs.push_back(
        read_input(each, fmt::format("{}[{}]", path, inputs.size())));
  }
  return inputs;
}

} // namespace mlx_flash::server
