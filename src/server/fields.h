// The fields of one JSON object of a request. Each is asked for by name, with
// its type and range; what nobody has asked for is an error that names it, so
// that nothing a client wants is ignored in silence.
//
// All throw ApiError(invalid_request) with the field's whole name, such as
// "messages[2].content". A field that is null counts as absent.
//
// Where the JSON comes from is json_texts.h.
//
// Thread rule: one thread. The JSON must outlive it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/json_texts.h"

namespace mlx_flash::server {

class Fields {
 public:
  // `name` is what the object is called in errors; empty for a body.
  // Throws if `value` is no object.
  explicit Fields(const nlohmann::ordered_json& value, std::string name = {});

  bool has(const char* field) const;

  // Ranges include their ends. Numbers must be finite; integers may be written
  // as 3.0.
  std::optional<double> number(const char* field, double least, double most);
  std::optional<int64_t>
  integer(const char* field, int64_t least, int64_t most);
  std::optional<bool> boolean(const char* field);
  std::optional<std::string> text(
      const char* field,
      size_t most_bytes = SIZE_MAX);
  // One of `words`.
  std::optional<std::string> word(
      const char* field,
      std::initializer_list<const char*> words);
  // Any value, or null; counts as asked for.
  const nlohmann::ordered_json* value(const char* field);
  const nlohmann::ordered_json* array(const char* field, size_t most);
  const nlohmann::ordered_json* object(const char* field);
  // A string, or an array of at most `most` strings.
  std::optional<std::vector<std::string>>
  texts(const char* field, size_t most, size_t most_bytes);

  // The same, absent ones being an error.
  std::string required_text(const char* field, size_t most_bytes = SIZE_MAX);
  int64_t required_integer(const char* field, int64_t least, int64_t most);
  const nlohmann::ordered_json& required_array(const char* field, size_t most);

  // Fields that change nothing about the answer.
  void accept(std::initializer_list<const char*> fields);
  // One that cannot be honoured: an error that says why, unless its value is
  // one of `harmless`, JSON texts such as "false" or "[]".
  void refuse(
      const char* field,
      const std::string& why,
      std::initializer_list<const char*> harmless = {});

  // Throws for the first field that nobody has asked for.
  void done() const;

  // Its whole name.
  std::string path(std::string_view field) const;
  [[noreturn]] void reject(const char* field, const std::string& why) const;

 private:
  const nlohmann::ordered_json* find(const char* field);

  const nlohmann::ordered_json& value_;
  const std::string name_;
  std::set<std::string, std::less<>> known_;
};

} // namespace mlx_flash::server
