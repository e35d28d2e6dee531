#include "parse/json_types.h"

#include <nlohmann/json.hpp>

namespace mlx_flash::parse {

using Json = nlohmann::ordered_json;

namespace {

// References may go in circles, and from each schema to many.
constexpr int kMostDepth = 64;
constexpr int kMostSchemas = 10'000;

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

JsonTypes type_of_value(const Json& value) {
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

class TypeFinder {
 public:
  explicit TypeFinder(const Json& root) : root_(root) {}

  JsonTypes types(const Json& schema, int depth = 0) {
    if (!schema.is_object() || depth == kMostDepth || ++seen_ > kMostSchemas) {
      return kAnyType;
    }
    JsonTypes types = kAnyType;
    for (const auto& [key, value] : schema.items()) {
      types &= types_by(key, value, depth);
    }
    return types;
  }

 private:
  // What one keyword leaves.
  JsonTypes types_by(const std::string& key, const Json& value, int depth) {
    const auto inner = [&](const Json& each) { return types(each, depth + 1); };
    if (key == "type") {
      return value.is_array() ? all_of_them(value, type_of_name)
                              : type_of_name(value);
    }
    if (key == "enum") {
      return all_of_them(value, type_of_value);
    }
    if (key == "const") {
      return type_of_value(value);
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
      const Json* target = find_reference(value, root_);
      types = target == nullptr ? kAnyType : inner(*target);
    }
    return types;
  }

  const Json& root_;
  int seen_ = 0;
};

} // namespace

JsonTypes allowed_types(const Json& schema, const Json& root) {
  return TypeFinder(root).types(schema);
}

PropertyTypes::PropertyTypes(std::string_view schema) {
  const Json root = Json::parse(schema, nullptr, false);
  const auto properties =
      root.is_object() ? root.find("properties") : root.end();
  if (properties == root.end() || !properties->is_object()) {
    return;
  }
  for (const auto& [name, property] : properties->items()) {
    types_[name] = allowed_types(property, root);
  }
}

JsonTypes PropertyTypes::of(const std::string& property) const {
  const auto found = types_.find(property);
  return found == types_.end() ? kAnyType : found->second;
}

} // namespace mlx_flash::parse
