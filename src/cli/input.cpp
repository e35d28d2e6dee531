#include "cli/input.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"

namespace mlx_flash::cli {

namespace {

constexpr uint64_t kMaxInputBytes = 64ull << 20;

// Takes a JSON text event by event: a list of many numbers as a tree of JSON
// values would need many times the memory.
class IdHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IdHandler(const std::string& source) : source_(source) {}

  std::vector<TokenId> take() {
    return std::move(ids_);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > std::numeric_limits<TokenId>::max()) {
      refuse(std::to_string(value));
    }
    require_list();
    ids_.push_back(static_cast<TokenId>(value));
    return true;
  }
  bool start_array(std::size_t) override {
    if (open_) {
      refuse("a list");
    }
    open_ = true;
    return true;
  }
  bool end_array() override {
    return true;
  }
  bool null() override {
    refuse("null");
  }
  bool boolean(bool value) override {
    refuse(value ? "true" : "false");
  }
  bool number_integer(number_integer_t value) override {
    refuse(std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    refuse(text.substr(0, 40));
  }
  bool string(string_t&) override {
    refuse("a string");
  }
  bool binary(binary_t&) override {
    refuse("binary data");
  }
  bool start_object(std::size_t) override {
    refuse("an object");
  }
  bool key(string_t&) override {
    return true;
  }
  bool end_object() override {
    return true;
  }
  bool parse_error(
      std::size_t position,
      const std::string&,
      const nlohmann::json::exception&) override {
    fail(
        ErrorCode::invalid_argument,
        "[ids] {} is no valid JSON at byte {}; it must be a list such as "
        "[1, 2, 3]",
        source_,
        position);
  }

 private:
  void require_list() const {
    if (!open_) {
      fail(
          ErrorCode::invalid_argument,
          "[ids] {} holds one number; it must be a list such as [1, 2, 3]",
          source_);
    }
  }
  [[noreturn]] void refuse(const std::string& found) const {
    fail(
        ErrorCode::invalid_argument,
        "[ids] {} has {} {}; it must be a list of token ids, whole numbers "
        "from 0 to {}",
        source_,
        found,
        open_ ? fmt::format("at index {}", ids_.size()) : "at its top",
        std::numeric_limits<TokenId>::max());
  }

  const std::string& source_;
  std::vector<TokenId> ids_;
  bool open_ = false;
};

// By its descriptor: "/dev/stdin" cannot be opened where it is a socket.
std::string read_stdin() {
  std::string text;
  char block[1 << 16];
  while (true) {
    const ssize_t n = ::read(STDIN_FILENO, block, sizeof(block));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      fail(
          ErrorCode::invalid_argument,
          "[stdin] cannot be read: {}",
          std::strerror(errno));
    }
    if (n == 0) {
      return text;
    }
    text.append(block, static_cast<size_t>(n));
    if (text.size() > kMaxInputBytes) {
      fail(
          ErrorCode::invalid_argument,
          "[stdin] holds more than {} bytes",
          kMaxInputBytes);
    }
  }
}

} // namespace

std::string read_input(const std::string& path) {
  if (path == "-") {
    return read_stdin();
  }
  try {
    return read_file_or_pipe(path, kMaxInputBytes);
  } catch (const Error& e) {
    throw e.code() == ErrorCode::io
        ? e
        : Error(ErrorCode::invalid_argument, e.what());
  }
}

bool stdin_is_terminal() {
  return ::isatty(STDIN_FILENO) == 1;
}

std::vector<TokenId> parse_ids(
    const std::string& json,
    const std::string& source) {
  IdHandler handler(source);
  nlohmann::json::sax_parse(json, &handler);
  return handler.take();
}

} // namespace mlx_flash::cli
