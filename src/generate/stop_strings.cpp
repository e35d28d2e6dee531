#include "generate/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mlx_flash {

StopStrings::Matcher::Matcher(std::string stop_string)
    : text(std::move(stop_string)), fallback(text.size() + 1) {
  for (size_t i = 1; i < text.size(); ++i) {
    advance(text[i]);
    fallback[i + 1] = matched;
  }
  matched = 0;
}

bool StopStrings::Matcher::advance(char c) {
  while (matched > 0 && text[matched] != c) {
    matched = fallback[matched];
  }
  matched += text[matched] == c;
  return matched == text.size();
}

StopStrings::StopStrings(const std::vector<std::string>& stop_strings) {
  for (const std::string& stop_string : stop_strings) {
    if (stop_string.empty()) {
      fail(
          ErrorCode::invalid_argument,
          "[stop] a stop string is empty; give it at least one character");
    }
    matchers_.emplace_back(stop_string);
  }
}

std::string StopStrings::push(std::string_view text) {
  if (finished()) {
    return {};
  }
  for (const char c : text) {
    held_.push_back(c);
    for (Matcher& matcher : matchers_) {
      if (matcher.advance(c) && matcher.text.size() > found_.size()) {
        found_ = matcher.text;
      }
    }
    if (finished()) {
      held_.resize(held_.size() - found_.size());
      return std::exchange(held_, {});
    }
  }
  size_t unsure = 0;
  for (const Matcher& matcher : matchers_) {
    unsure = std::max(unsure, matcher.matched);
  }
  std::string certain = held_.substr(0, held_.size() - unsure);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopStrings::flush() {
  return std::exchange(held_, {});
}

} // namespace mlx_flash
