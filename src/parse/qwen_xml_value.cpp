#include "parse/qwen_xml_value.h"

#include <algorithm>

#include <fmt/format.h>

#include "parse/json_prefix.h"
#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD"; // U+FFFD

// Python's spellings too: True, None.
std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return result;
}

bool is_json(std::string_view text) {
  JsonPrefix json;
  size_t taken = 0;
  while (taken < text.size() && json.push(text[taken])) {
    ++taken;
  }
  json.push(' '); // behind a number
  return taken == text.size() && json.state() == JsonPrefix::State::complete;
}

bool is_number_byte(char c) {
  return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' ||
      c == 'e' || c == 'E';
}

std::string escape(char byte) {
  switch (byte) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return static_cast<unsigned char>(byte) < 0x20
          ? fmt::format("\\u{:04x}", static_cast<unsigned>(byte))
          : std::string(1, byte);
  }
}

} // namespace

QwenXmlValue::QwenXmlValue(JsonTypes types) : types_(types) {}

void QwenXmlValue::push(char byte, std::string& json) {
  if (first_) {
    first_ = false;
    if (types_ == kString) {
      begin_text(json);
    }
    if (byte == '\n') {
      return;
    }
  }
  if (is_text_) {
    add_text(byte, json);
    return;
  }
  held_ += byte;
  if (held_.size() > kMostHeldBytes || !may_be_other(held_)) {
    begin_text(json);
  }
}

// Looks at the first character, and at all of it only while it is short.
bool QwenXmlValue::may_be_other(std::string_view text) const {
  const size_t first = text.find_first_not_of(kSpaces);
  if (first != std::string_view::npos &&
      (text[first] == '{' || text[first] == '[')) {
    return types_ & (text[first] == '{' ? kObject : kArray);
  }
  if (text.size() > JsonPrefix::kMostNumberBytes) {
    return false;
  }
  const std::string_view value = trim(text);
  const std::string word = lower(value);
  const auto begins = [&](std::string_view whole) {
    return whole.starts_with(word);
  };
  return value.empty() ||
      ((types_ & kBoolean) && (begins("true") || begins("false"))) ||
      ((types_ & kNull) && (begins("null") || begins("none"))) ||
      ((types_ & (kNumber | kInteger)) &&
       std::all_of(value.begin(), value.end(), is_number_byte));
}

std::string QwenXmlValue::other(std::string_view text) const {
  const std::string_view value = trim(text);
  const std::string word = lower(value);
  if ((types_ & kBoolean) && (word == "true" || word == "false")) {
    return word;
  }
  if ((types_ & kNull) && (word == "null" || word == "none")) {
    return "null";
  }
  if (value.empty() || !may_be_other(value) || !is_json(value)) {
    return "";
  }
  const bool fraction = is_number_byte(value[0]) &&
      value.find_first_of(".eE") != std::string_view::npos;
  if (fraction && !(types_ & kNumber) && (types_ & kString)) {
    return "";
  }
  return std::string(value);
}

void QwenXmlValue::begin_text(std::string& json) {
  is_text_ = true;
  json += '"';
  for (const char byte : held_) {
    add_text(byte, json);
  }
  held_.clear();
}

void QwenXmlValue::add_text(char byte, std::string& json) {
  switch (utf8_.push(byte)) {
    case Utf8Prefix::Result::partial:
      character_ += byte;
      break;
    case Utf8Prefix::Result::whole:
      json += character_;
      json += character_.empty() ? escape(byte) : std::string(1, byte);
      character_.clear();
      break;
    case Utf8Prefix::Result::bad:
      json += kReplacement;
      if (!character_.empty()) {
        character_.clear();
        add_text(byte, json); // it may begin another one
      }
      break;
  }
}

void QwenXmlValue::end(std::string& json) {
  if (!is_text_) {
    const std::string value = types_ == kString ? "" : other(held_);
    if (!value.empty()) {
      json += value;
      return;
    }
    begin_text(json);
  }
  if (!character_.empty()) {
    json += kReplacement;
  }
  json += '"';
}

bool QwenXmlValue::end_early(std::string& json) {
  if (is_text_) {
    json += '"';
  }
  return is_text_;
}

} // namespace mlx_flash::parse
