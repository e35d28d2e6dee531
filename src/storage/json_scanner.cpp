#include "storage/json_scanner.h"

#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/error.h"

namespace mlx_flash {

namespace {

constexpr size_t kLongestNumber = 64;

bool is_blank(int byte) {
  return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

bool is_digit(int byte) {
  return byte >= '0' && byte <= '9';
}

// Bytes of a string that stand for themselves.
bool is_plain(char byte) {
  const auto b = static_cast<unsigned char>(byte);
  return b >= 0x20 && b < 0x80 && b != '"' && b != '\\';
}

size_t encode_utf8(uint32_t code, char (&out)[4]) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) {
    out[0] = byte(code);
    return 1;
  }
  if (code < 0x800) {
    out[0] = byte(0xC0 | code >> 6);
    out[1] = byte(0x80 | (code & 0x3F));
    return 2;
  }
  if (code < 0x10000) {
    out[0] = byte(0xE0 | code >> 12);
    out[1] = byte(0x80 | (code >> 6 & 0x3F));
    out[2] = byte(0x80 | (code & 0x3F));
    return 3;
  }
  out[0] = byte(0xF0 | code >> 18);
  out[1] = byte(0x80 | (code >> 12 & 0x3F));
  out[2] = byte(0x80 | (code >> 6 & 0x3F));
  out[3] = byte(0x80 | (code & 0x3F));
  return 4;
}

} // namespace

JsonScanner::JsonScanner(
    Refill refill,
    std::string where,
    std::string hint,
    JsonLimits limits)
    : refill_(std::move(refill)),
      where_(std::move(where)),
      hint_(std::move(hint)),
      limits_(limits) {}

JsonScanner::JsonScanner(
    std::string_view text,
    std::string where,
    std::string hint,
    JsonLimits limits)
    : JsonScanner(
          [text]() mutable { return std::exchange(text, {}); },
          std::move(where),
          std::move(hint),
          limits) {}

void JsonScanner::refuse(std::string_view what) const {
  fail(
      ErrorCode::bad_model,
      "{}: {} at byte {}; {}",
      where_,
      what,
      offset(),
      hint_);
}

// ---- bytes ----

int JsonScanner::peek_byte() {
  if (at_ == end_) {
    if (ended_) {
      return -1;
    }
    before_ += static_cast<uint64_t>(end_ - begin_);
    const std::string_view chunk = refill_();
    begin_ = at_ = chunk.data();
    end_ = at_ + chunk.size();
    if (chunk.empty()) {
      ended_ = true;
      return -1;
    }
  }
  return static_cast<unsigned char>(*at_);
}

int JsonScanner::take_byte() {
  const int byte = peek_byte();
  if (byte >= 0) {
    ++at_;
  }
  return byte;
}

int JsonScanner::peek_token() {
  while (is_blank(peek_byte())) {
    ++at_;
  }
  return peek_byte();
}

void JsonScanner::expect(char byte, std::string_view what) {
  if (peek_token() != byte) {
    refuse(what);
  }
  ++at_;
}

void JsonScanner::expect_word(std::string_view word) {
  for (const char c : word) {
    if (peek_byte() != c) {
      refuse("unknown word");
    }
    ++at_;
  }
}

uint64_t JsonScanner::offset() const {
  return before_ + static_cast<uint64_t>(at_ - begin_);
}

bool JsonScanner::starts_with(char byte) {
  return peek_byte() == byte;
}

// ---- structure ----

JsonScanner::Kind JsonScanner::peek() {
  const int byte = peek_token();
  switch (byte) {
    case '{':
      return Kind::object;
    case '[':
      return Kind::array;
    case '"':
      return Kind::string;
    case 't':
    case 'f':
      return Kind::boolean;
    case 'n':
      return Kind::null;
    default:
      if (byte == '-' || is_digit(byte)) {
        return Kind::number;
      }
      refuse(byte < 0 ? "the text ends too early" : "a value is expected");
  }
}

void JsonScanner::count_value() {
  if (++values_ > limits_.values) {
    refuse(fmt::format("more than {} values", limits_.values));
  }
}

void JsonScanner::push(bool object) {
  if (frames_.size() >= limits_.depth) {
    refuse(fmt::format("nested deeper than {} levels", limits_.depth));
  }
  count_value();
  frames_.push_back({object, true});
}

void JsonScanner::begin_object() {
  expect('{', "an object is expected");
  push(true);
}

void JsonScanner::begin_array() {
  expect('[', "an array is expected");
  push(false);
}

// Past the comma to the next member or element; false past the end.
bool JsonScanner::next(char close) {
  Frame& frame = frames_.back();
  if (peek_token() == close) {
    ++at_;
    frames_.pop_back();
    return false;
  }
  if (!frame.first) {
    expect(',', "a comma or the end of the list is expected");
    peek_token();
  }
  frame.first = false;
  return true;
}

bool JsonScanner::next_member(std::string& name) {
  if (!next('}')) {
    return false;
  }
  if (peek_token() != '"') {
    refuse("the name of a member is expected");
  }
  count_value();
  name.clear();
  scan_string(&name);
  expect(':', "a colon is expected");
  return true;
}

bool JsonScanner::next_element() {
  return next(']');
}

void JsonScanner::finish() {
  if (peek_token() >= 0) {
    refuse("something follows the end of the text");
  }
}

// ---- values ----

std::string JsonScanner::string() {
  if (peek_token() != '"') {
    refuse("a string is expected");
  }
  count_value();
  std::string text;
  scan_string(&text);
  return text;
}

bool JsonScanner::boolean() {
  const int byte = peek_token();
  if (byte != 't' && byte != 'f') {
    refuse("true or false is expected");
  }
  count_value();
  expect_word(byte == 't' ? "true" : "false");
  return byte == 't';
}

void JsonScanner::null() {
  peek_token();
  count_value();
  expect_word("null");
}

void JsonScanner::scan_digits(std::string& text) {
  if (!is_digit(peek_byte())) {
    refuse("a digit is expected");
  }
  while (is_digit(peek_byte())) {
    text += *at_++;
    if (text.size() > kLongestNumber) {
      refuse(fmt::format("a number of over {} digits", kLongestNumber));
    }
  }
}

std::string JsonScanner::number() {
  const int first = peek_token();
  if (first != '-' && !is_digit(first)) {
    refuse("a number is expected");
  }
  count_value();
  std::string text;
  if (first == '-') {
    text += *at_++;
  }
  if (peek_byte() == '0') {
    text += *at_++;
  } else {
    scan_digits(text);
  }
  if (peek_byte() == '.') {
    text += *at_++;
    scan_digits(text);
  }
  if (peek_byte() == 'e' || peek_byte() == 'E') {
    text += *at_++;
    if (peek_byte() == '+' || peek_byte() == '-') {
      text += *at_++;
    }
    scan_digits(text);
  }
  // Without a point or an exponent 64 digits cannot be too large.
  if (text.find_first_of("eE") != std::string::npos &&
      !std::isfinite(std::strtod(text.c_str(), nullptr))) {
    refuse("a number that is too large");
  }
  return text;
}

int64_t JsonScanner::unsigned_integer() {
  constexpr std::string_view kWhat =
      "an integer from 0 to 2^63 - 1 is expected";
  const int first = peek_token();
  if (!is_digit(first)) {
    refuse(kWhat);
  }
  count_value();
  int64_t value = 0;
  int digits = 0;
  for (; is_digit(peek_byte()); ++at_, ++digits) {
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, *at_ - '0', &value)) {
      refuse(kWhat);
    }
  }
  const int next = peek_byte();
  if ((first == '0' && digits > 1) || next == '.' || next == 'e' ||
      next == 'E') {
    refuse(kWhat);
  }
  return value;
}

void JsonScanner::skip() {
  const size_t depth = frames_.size();
  do {
    // A frame that was opened here goes on or ends.
    if (frames_.size() > depth) {
      const bool object = frames_.back().object;
      if (!next(object ? '}' : ']')) {
        continue;
      }
      if (object) {
        if (peek_token() != '"') {
          refuse("the name of a member is expected");
        }
        count_value();
        scan_string(nullptr);
        expect(':', "a colon is expected");
      }
    }
    switch (peek()) {
      case Kind::object:
        begin_object();
        break;
      case Kind::array:
        begin_array();
        break;
      case Kind::string:
        count_value();
        scan_string(nullptr);
        break;
      case Kind::number:
        number();
        break;
      case Kind::boolean:
        boolean();
        break;
      case Kind::null:
        null();
        break;
    }
  } while (frames_.size() > depth);
}

// ---- strings ----

void JsonScanner::append(std::string* keep, std::string_view bytes) {
  if (!keep) {
    return;
  }
  if (keep->size() + bytes.size() > limits_.string_bytes) {
    refuse(fmt::format("a string of over {} bytes", limits_.string_bytes));
  }
  keep->append(bytes);
}

void JsonScanner::scan_string(std::string* keep) {
  ++at_; // the quote that peek_token() saw
  const uint64_t begin = offset();
  while (true) {
    if (!keep && offset() - begin > limits_.skipped_bytes) {
      refuse(fmt::format("a string of over {} bytes", limits_.skipped_bytes));
    }
    const int byte = peek_byte();
    if (byte < 0) {
      refuse("a string does not end");
    } else if (byte == '"') {
      ++at_;
      return;
    } else if (byte == '\\') {
      ++at_;
      scan_escape(keep);
    } else if (byte < 0x20) {
      refuse("a control character in a string");
    } else if (byte < 0x80) {
      scan_plain(keep);
    } else {
      scan_utf8(keep);
    }
  }
}

void JsonScanner::scan_plain(std::string* keep) {
  const char* from = at_;
  while (at_ != end_ && is_plain(*at_)) {
    ++at_;
  }
  append(keep, {from, static_cast<size_t>(at_ - from)});
}

uint32_t JsonScanner::scan_hex4() {
  uint32_t code = 0;
  for (int i = 0; i < 4; ++i) {
    const int byte = take_byte();
    const int lower = byte | 0x20;
    if (is_digit(byte)) {
      code = code * 16 + static_cast<uint32_t>(byte - '0');
    } else if (byte >= 0 && lower >= 'a' && lower <= 'f') {
      code = code * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      refuse("\\u needs four hexadecimal digits");
    }
  }
  return code;
}

void JsonScanner::scan_escape(std::string* keep) {
  const int byte = take_byte();
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  if (byte != 'u') {
    const size_t i =
        byte < 0 ? kNames.npos : kNames.find(static_cast<char>(byte));
    if (i == kNames.npos) {
      refuse("an unknown escape in a string");
    }
    append(keep, kValues.substr(i, 1));
    return;
  }
  uint32_t code = scan_hex4();
  if (code >= 0xD800 && code < 0xE000) {
    // Characters beyond 16 bits come as a pair.
    const bool pair =
        code < 0xDC00 && take_byte() == '\\' && take_byte() == 'u';
    const uint32_t low = pair ? scan_hex4() : 0;
    if (low < 0xDC00 || low >= 0xE000) {
      refuse("half a surrogate pair in a string");
    }
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  char utf8[4];
  append(keep, {utf8, encode_utf8(code, utf8)});
}

// One character of two to four bytes: no overlong forms, surrogates or codes
// above U+10FFFF (Unicode 15, table 3-7).
void JsonScanner::scan_utf8(std::string* keep) {
  char utf8[4];
  const int lead = take_byte();
  utf8[0] = static_cast<char>(lead);
  const int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  int least = 0x80, most = 0xBF; // of the second byte
  switch (lead) {
    case 0xE0:
      least = 0xA0;
      break;
    case 0xED:
      most = 0x9F;
      break;
    case 0xF0:
      least = 0x90;
      break;
    case 0xF4:
      most = 0x8F;
      break;
  }
  bool valid = lead >= 0xC2 && lead <= 0xF4;
  for (int i = 1; valid && i < length; ++i) {
    const int byte = take_byte();
    valid = byte >= least && byte <= most;
    utf8[i] = static_cast<char>(byte);
    least = 0x80;
    most = 0xBF;
  }
  if (!valid) {
    refuse("a string is not valid UTF-8");
  }
  append(keep, {utf8, static_cast<size_t>(length)});
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kMost = 120;
  std::string result = "'";
  for (const char c : text.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte >= 0x7F ? '?' : c;
  }
  return result + (text.size() > kMost ? "...'" : "'");
}

} // namespace mlx_flash
