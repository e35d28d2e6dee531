#include "parse/json_prefix.h"

#include <string_view>

#include <nlohmann/json.hpp>

#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

} // namespace

bool JsonPrefix::push(char byte) {
  if (state_ != State::reading) {
    return false;
  }
  if (!step(byte)) {
    if (state_ == State::reading) {
      state_ = State::broken;
    }
    return false;
  }
  ++taken_;
  if (step_ == Step::end) {
    state_ = State::complete;
  }
  if (is_certain()) {
    note_certain();
  }
  return true;
}

void JsonPrefix::note_certain() {
  certain_ = taken_;
  certain_step_ = step_;
  certain_key_ = in_key_;
}

bool JsonPrefix::step(char byte) {
  switch (step_) {
    case Step::string:
      return in_string(byte);
    case Step::escape:
      return in_escape(byte);
    case Step::hex:
      return in_hex(byte);
    case Step::low_backslash:
      step_ = Step::low_u;
      return byte == '\\';
    case Step::low_u:
      step_ = Step::hex;
      pending_.clear();
      low_ = true;
      return byte == 'u';
    case Step::number:
      return in_number(byte);
    case Step::word:
      return in_word(byte);
    default:
      return in_structure(byte);
  }
}

bool JsonPrefix::in_structure(char byte) {
  if (is_space(byte)) {
    return taken_ > 0;
  }
  switch (step_) {
    case Step::first_item:
      return byte == ']' ? close('[') : begin_value(byte);
    case Step::first_key:
      if (byte == '}') {
        return close('{');
      }
      [[fallthrough]];
    case Step::key:
      step_ = Step::string;
      in_key_ = true;
      after_comma_ = false;
      return byte == '"';
    case Step::colon:
      step_ = Step::value;
      return byte == ':';
    case Step::after:
      if (byte == ',') {
        step_ = open_.back() == '{' ? Step::key : Step::value;
        after_comma_ = true;
        return true;
      }
      return byte == '}' ? close('{') : byte == ']' && close('[');
    default:
      return begin_value(byte);
  }
}

bool JsonPrefix::begin_value(char byte) {
  after_comma_ = false;
  pending_ = byte;
  switch (byte) {
    case '{':
      return open('{', Step::first_key);
    case '[':
      return open('[', Step::first_item);
    case '"':
      step_ = Step::string;
      in_key_ = false;
      return true;
    case 't':
    case 'f':
    case 'n':
      step_ = Step::word;
      word_ = byte == 't' ? "true" : byte == 'f' ? "false" : "null";
      return true;
    default:
      step_ = Step::number;
      return byte == '-' || is_digit(byte);
  }
}

bool JsonPrefix::open(char bracket, Step next) {
  if (open_.size() == kMostDepth) {
    return false;
  }
  open_ += bracket;
  step_ = next;
  return true;
}

bool JsonPrefix::close(char bracket) {
  if (open_.back() != bracket) {
    return false;
  }
  open_.pop_back();
  end_value();
  return true;
}

void JsonPrefix::end_value() {
  step_ = open_.empty() ? Step::end : Step::after;
}

bool JsonPrefix::in_string(char byte) {
  if (!partial_character_) {
    if (byte == '"') {
      if (in_key_) {
        step_ = Step::colon;
      } else {
        end_value();
      }
      return true;
    }
    if (byte == '\\') {
      step_ = Step::escape;
      return true;
    }
    if (static_cast<unsigned char>(byte) < 0x20) {
      return false;
    }
  }
  const auto result = utf8_.push(byte);
  partial_character_ = result == Utf8Prefix::Result::partial;
  return result != Utf8Prefix::Result::bad;
}

bool JsonPrefix::in_escape(char byte) {
  if (byte == 'u') {
    step_ = Step::hex;
    pending_.clear();
    low_ = false;
    return true;
  }
  step_ = Step::string;
  return std::string_view("\"\\/bfnrt").find(byte) != std::string_view::npos;
}

bool JsonPrefix::in_hex(char byte) {
  if (!is_hex(byte)) {
    return false;
  }
  pending_ += byte;
  if (pending_.size() < 4) {
    return true;
  }
  const auto unit = std::stoul(pending_, nullptr, 16);
  const bool is_low = unit >= 0xDC00 && unit <= 0xDFFF;
  const bool is_high = unit >= 0xD800 && unit <= 0xDBFF;
  step_ = is_high ? Step::low_backslash : Step::string;
  return low_ ? is_low : !is_low;
}

// Whether the number, with `byte` at its end, can still become one.
bool JsonPrefix::fits_number(char byte) const {
  const char last = pending_.back();
  const bool exponent = pending_.find_first_of("eE") != std::string::npos;
  const bool point = pending_.find('.') != std::string::npos;
  if (is_digit(byte)) {
    return pending_ != "0" && pending_ != "-0";
  }
  if (byte == '.') {
    return is_digit(last) && !point && !exponent;
  }
  if (byte == 'e' || byte == 'E') {
    return is_digit(last) && !exponent;
  }
  return (byte == '+' || byte == '-') && (last == 'e' || last == 'E');
}

bool JsonPrefix::in_number(char byte) {
  if (is_digit(byte) || byte == '.' || byte == 'e' || byte == 'E' ||
      byte == '+' || byte == '-') {
    if (pending_.size() == kMostNumberBytes || !fits_number(byte)) {
      return false;
    }
    pending_ += byte;
    return true;
  }
  if (!nlohmann::json::accept(pending_)) { // or too large for a double
    return false;
  }
  end_value();
  note_certain();
  if (step_ == Step::end) {
    state_ = State::complete;
    return false;
  }
  return in_structure(byte);
}

bool JsonPrefix::in_word(char byte) {
  pending_ += byte;
  const std::string_view word = word_;
  if (!word.starts_with(pending_)) {
    return false;
  }
  if (pending_.size() == word.size()) {
    end_value();
  }
  return true;
}

bool JsonPrefix::is_certain() const {
  switch (step_) {
    case Step::string:
      return !partial_character_;
    case Step::value:
      return !after_comma_;
    case Step::first_item:
    case Step::first_key:
    case Step::colon:
    case Step::after:
    case Step::end:
      return true;
    default:
      return false;
  }
}

std::string JsonPrefix::closing() const {
  std::string text;
  switch (certain_step_) {
    case Step::string:
      text = certain_key_ ? "\":null" : "\"";
      break;
    case Step::colon:
      text = ":null";
      break;
    case Step::value:
      text = "null";
      break;
    default:
      break;
  }
  if (certain_step_ != Step::end) {
    for (auto bracket = open_.rbegin(); bracket != open_.rend(); ++bracket) {
      text += *bracket == '{' ? '}' : ']';
    }
  }
  return text;
}

} // namespace mlx_flash::parse
