#include "parse/json_types.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

// Of schemas within schemas and behind references: they are looked into by
// recursion.
constexpr int kMostDepth = 64;

JsonTypes type_of_name(const Json& name) {
  static const std::map<std::string, JsonTypes> types = {
      {"string", kString},
      {"integer", kInteger},
      {"number", kInteger | kNumber},
      {"boolean", kBoolean},
      {"null", kNull},
      {"object", kObject},
      {"array", kArray}};
  const auto found =
      name.is_string() ? types.find(name.get<std::string>()) : types.end();
  return found == types.end() ? kAnyType : found->second;
}

template <typename Type>
JsonTypes all_of_them(const Json& list, const Type& type) {
  if (!list.is_array()) {
    return kAnyType;
  }
  JsonTypes types = 0;
  for (const Json& each : list) {
    types |= type(each);
  }
  return types;
}

// Null for what is not there.
const Json* find_reference(const Json& reference, const Json& root) {
  const auto text = reference.is_string() ? reference.get<std::string>() : "";
  if (text == "#") {
    return &root;
  }
  if (!text.starts_with("#/")) {
    return nullptr;
  }
  try {
    const Json::json_pointer pointer(text.substr(1));
    return root.contains(pointer) ? &root.at(pointer) : nullptr;
  } catch (const Json::exception&) { // no pointer
    return nullptr;
  }
}

} // namespace

JsonTypes type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::string:
      return kString;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return kInteger;
    case Json::value_t::number_float:
      return kNumber;
    case Json::value_t::boolean:
      return kBoolean;
    case Json::value_t::object:
      return kObject;
    case Json::value_t::array:
      return kArray;
    default:
      return kNull;
  }
}

const Json* SchemaTypes::target(const Json& reference) {
  const auto [known, is_new] = targets_.try_emplace(&reference, nullptr);
  if (is_new) {
    known->second = find_reference(reference, root_);
  }
  return known->second;
}

JsonTypes SchemaTypes::find(const Json& schema, int depth) {
  if (!schema.is_object() || depth == kMostDepth) {
    return kAnyType;
  }
  const auto [known, is_new] = known_.try_emplace(&schema, kAnyType);
  if (!is_new) {
    return known->second;
  }
  JsonTypes types = kAnyType;
  for (const auto& [key, value] : schema.items()) {
    ++members_;
    types &= find_by(key, value, depth);
  }
  known_[&schema] = types;
  return types;
}

// What one keyword leaves.
JsonTypes
SchemaTypes::find_by(const std::string& key, const Json& value, int depth) {
  const auto inner = [&](const Json& each) { return find(each, depth + 1); };
  if (key == "type") {
    return value.is_array() ? all_of_them(value, type_of_name)
                            : type_of_name(value);
  }
  if (key == "enum") {
    return all_of_them(value, type_of);
  }
  if (key == "const") {
    return type_of(value);
  }
  if (key == "anyOf" || key == "oneOf") {
    return all_of_them(value, inner);
  }
  JsonTypes types = kAnyType;
  if (key == "allOf" && value.is_array()) {
    for (const Json& each : value) {
      types &= inner(each);
    }
  } else if (key == "$ref") {
    const Json* found = target(value);
    types = found == nullptr ? kAnyType : inner(*found);
  }
  return types;
}

PropertyTypes::PropertyTypes(std::string_view schema) {
  const Json root = Json::parse(schema, nullptr, false);
  const auto properties =
      root.is_object() ? root.find("properties") : root.end();
  if (properties == root.end() || !properties->is_object()) {
    return;
  }
  SchemaTypes types(root);
  for (const auto& [name, property] : properties->items()) {
    types_[name] = types.of(property);
  }
}

JsonTypes PropertyTypes::of(const std::string& property) const {
  const auto found = types_.find(property);
  return found == types_.end() ? kAnyType : found->second;
}

} // namespace mlx_flash::parse
