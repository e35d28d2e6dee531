// Which types of JSON values a schema allows, as far as that can be seen
// without a value: what it cannot tell counts as any.
//
// Thread rule: immutable after construction.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

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

// `root` is what references within `schema` refer to.
JsonTypes allowed_types(
    const nlohmann::ordered_json& schema,
    const nlohmann::ordered_json& root);

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
