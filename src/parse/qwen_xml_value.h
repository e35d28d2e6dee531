// From the text of a parameter in Qwen's XML form to JSON, as it arrives. The
// form has no quotes: whether 5 is a number or a text is for the parameter's
// schema to say.
//
// Where a text is allowed and nothing else, its JSON is certain from the first
// character on. Else a value is held back until it can only be a text, or is
// over; what then is no JSON of an allowed type is a text.
//
// Thread rule: belongs to one call.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "parse/json_types.h"
#include "parse/utf8_prefix.h"

namespace mlx_flash::parse {

class QwenXmlValue {
 public:
  // Longer ones are texts.
  static constexpr size_t kMostHeldBytes = 1u << 20;

  explicit QwenXmlValue(JsonTypes types);

  // JSON that is certain is added to `json`. One line end at the value's
  // beginning does not belong to it.
  void push(char byte, std::string& json);
  // The value is over: adds the rest of it.
  void end(std::string& json);
  // The answer is over within the value: closes what was added. False if
  // nothing was.
  bool end_early(std::string& json);

 private:
  bool may_be_other(std::string_view text) const;
  // The JSON of a whole value that is no text; empty for a text.
  std::string other(std::string_view text) const;
  void begin_text(std::string& json);
  void add_text(char byte, std::string& json);

  const JsonTypes types_;
  bool first_ = true;
  bool is_text_ = false;
  std::string held_;
  Utf8Prefix utf8_;
  std::string character_; // that is incomplete
};

} // namespace mlx_flash::parse
