// For tests: what of a scripted answer may be told.
//
// Thread rule: belongs to one answer.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace mlx_flash::server {

// Text that is certain: whole characters, and nothing that may yet become a
// stop string.
class ScriptedOutput {
 public:
  explicit ScriptedOutput(std::vector<std::string> stop_strings)
      : stop_strings_(std::move(stop_strings)) {}

  std::string push(const std::string& bytes) {
    bytes_ += bytes;
    const size_t whole = bytes_.size() - incomplete(bytes_);
    held_ += bytes_.substr(0, whole);
    bytes_.erase(0, whole);
    size_t first = std::string::npos;
    for (const std::string& each : stop_strings_) {
      const size_t at = held_.find(each);
      if (at < first) {
        first = at;
        stop_string = each;
      }
    }
    size_t certain = first;
    if (first == std::string::npos) {
      certain = held_.size() - unsure();
    }
    std::string text = held_.substr(0, certain);
    held_.erase(0, certain);
    return text;
  }

  std::string flush() {
    if (!stop_string.empty()) {
      return {};
    }
    const std::string replacement = bytes_.empty() ? "" : "\xEF\xBF\xBD";
    return std::exchange(held_, {}) + replacement;
  }

  std::string stop_string{}; // the one that was found

 private:
  // Bytes at the end that are the beginning of a character.
  static size_t incomplete(const std::string& text) {
    for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
      const auto byte = static_cast<unsigned char>(text[text.size() - back]);
      if ((byte & 0xC0) == 0xC0) {
        const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
        return back < length ? back : 0;
      }
      if ((byte & 0x80) == 0) {
        return 0;
      }
    }
    return 0;
  }

  size_t unsure() const {
    size_t most = 0;
    for (const std::string& each : stop_strings_) {
      for (size_t n = 1; n < each.size() && n <= held_.size(); ++n) {
        if (held_.compare(held_.size() - n, n, each, 0, n) == 0) {
          most = std::max(most, n);
        }
      }
    }
    return most;
  }

  const std::vector<std::string> stop_strings_;
  std::string bytes_; // of a character that is not complete
  std::string held_;
};

} // namespace mlx_flash::server
