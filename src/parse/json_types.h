// Which types of JSON values a schema allows, as far as that can be seen
// without a value: what it cannot tell counts as any.
//
// Schemas come from clients, and references may lead to the same one from
// everywhere, so each is looked into once.
//
// Thread rule: SchemaTypes belongs to one thread at a time; PropertyTypes are
// immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include <nlohmann/json_fwd.hpp>

namespace mlx_flash::parse {

// A set, one bit for each.
using JsonTypes = uint8_t;
inline constexpr JsonTypes kString = 1;
inline constexpr JsonTypes kInteger = 2;
inline constexpr JsonTypes kNumber = 4;
inline constexpr JsonTypes kBoolean = 8;
inline constexpr JsonTypes kNull = 16;
inline constexpr JsonTypes kObject = 32;
inline constexpr JsonTypes kArray = 64;
inline constexpr JsonTypes kAnyType = 127;

// That of a value.
JsonTypes type_of(const nlohmann::ordered_json& value);

class SchemaTypes {
 public:
  // What references refer to; it must outlive this and not change.
  explicit SchemaTypes(const nlohmann::ordered_json& root) : root_(root) {}

  // `schema` is `root` or within it.
  JsonTypes of(const nlohmann::ordered_json& schema) {
    return find(schema, 0);
  }
  // What a value of "$ref" within `root` refers to; null for what is not there.
  const nlohmann::ordered_json* target(const nlohmann::ordered_json& reference);

  // How many members of schemas were looked at.
  size_t members() const {
    return members_;
  }

 private:
  using Json = nlohmann::ordered_json;

  JsonTypes find(const Json& schema, int depth);
  JsonTypes find_by(const std::string& key, const Json& value, int depth);

  const Json& root_;
  // Any for those that are being looked into: references may go in circles.
  std::unordered_map<const Json*, JsonTypes> known_;
  std::unordered_map<const Json*, const Json*> targets_; // of references
  size_t members_ = 0;
};

// Of the properties of an object.
class PropertyTypes {
 public:
  // Text that is no schema of an object allows anything.
  explicit PropertyTypes(std::string_view schema);
  JsonTypes of(const std::string& property) const;

 private:
  std::map<std::string, JsonTypes> types_;
};

} // namespace mlx_flash::parse
