// A strict JSON reader for files that nobody vouches for. It pulls bytes in
// chunks and hands out one value at a time; it keeps no tree, so memory stays
// small whatever the file holds, and nothing recurses. Depth, the length of
// strings that are kept and the number of values are bounded.
//
// It accepts what RFC 8259 calls JSON, in valid UTF-8, and nothing else: no
// comments, trailing commas, NaN, byte order marks or numbers beyond a double.
//
// Every refusal is an Error(bad_model) that names the file and the byte.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlx_flash {

struct JsonLimits {
  uint32_t depth = 64; // of objects and arrays
  uint32_t string_bytes = 1024; // of strings that are kept
  uint32_t skipped_bytes = 16 << 20; // of strings that are not, as written
  uint64_t values = UINT64_MAX; // names of members included
};

class JsonScanner {
 public:
  enum class Kind : uint8_t { object, array, string, number, boolean, null };

  // Gives the next bytes, which stay valid until the next call; empty at the
  // end.
  using Refill = std::function<std::string_view()>;

  // Messages read "<where>: <what> at byte N; <hint>".
  JsonScanner(
      Refill refill,
      std::string where,
      std::string hint,
      JsonLimits limits = {});
  // `text` must outlive the scanner.
  JsonScanner(
      std::string_view text,
      std::string where,
      std::string hint,
      JsonLimits limits = {});

  // True if the very next byte, blanks included, is `byte`.
  bool starts_with(char byte);

  // The kind of the value that comes next.
  Kind peek();

  // begin_object(); while (next_member(name)) { read or skip one value }
  void begin_object();
  bool next_member(std::string& name);
  // begin_array(); while (next_element()) { read or skip one value }
  void begin_array();
  bool next_element();

  // Each refuses a value of another kind.
  std::string string();
  bool boolean();
  void null();
  // The number as it is written.
  std::string number();
  // A number written as a plain integer from 0 to 2^63 - 1; all else is
  // refused.
  int64_t unsigned_integer();

  // Reads over a value of any kind and all that is in it.
  void skip();
  // Refuses anything but blanks up to the end.
  void finish();

  // Bytes that were read over.
  uint64_t offset() const;

  // Throws the Error for something that the caller cannot accept here.
  [[noreturn]] void refuse(std::string_view what) const;

 private:
  struct Frame {
    bool object;
    bool first;
  };

  int peek_byte(); // -1 at the end
  int take_byte();
  int peek_token(); // past blanks
  void expect(char byte, std::string_view what);
  void expect_word(std::string_view word);
  void push(bool object);
  bool next(char close);
  void count_value();
  // `keep` may be null.
  void scan_string(std::string* keep);
  void scan_plain(std::string* keep);
  void scan_escape(std::string* keep);
  uint32_t scan_hex4();
  void scan_utf8(std::string* keep);
  void append(std::string* keep, std::string_view bytes);
  void scan_digits(std::string& text);

  Refill refill_;
  std::string where_;
  std::string hint_;
  JsonLimits limits_;
  const char* at_ = nullptr;
  const char* end_ = nullptr;
  uint64_t before_ = 0; // bytes of the chunks before this one
  const char* begin_ = nullptr;
  bool ended_ = false;
  uint64_t values_ = 0;
  std::vector<Frame> frames_;
  std::string scratch_;
};

// `text` in quotes for a message: shortened, and in printable ASCII, because a
// terminal obeys some characters.
std::string in_quotes(std::string_view text);

} // namespace mlx_flash
