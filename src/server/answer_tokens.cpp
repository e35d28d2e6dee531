#include "server/answer_tokens.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mlx_flash::server {

namespace {

std::vector<std::string> without_empty(std::vector<std::string> marks) {
  std::erase(marks, std::string());
  return marks;
}

} // namespace

AnswerTokens::AnswerTokens(std::vector<std::string> marks)
    : marks_(without_empty(std::move(marks))) {}

void AnswerTokens::push(std::string_view text, std::vector<TokenText> tokens) {
  without_text_.insert(
      without_text_.end(),
      std::make_move_iterator(tokens.begin()),
      std::make_move_iterator(tokens.end()));
  if (text.empty()) {
    return;
  }
  const size_t begin = taken_ + text_.size();
  text_ += text;
  for (TokenText& token : without_text_) {
    placed_.push_back({std::move(token), begin, begin + text.size()});
  }
  without_text_.clear();
}

// Where `text` begins in text_; npos if it is not there.
size_t AnswerTokens::find(std::string_view text) const {
  size_t at = 0;
  const std::string_view all = text_;
  while (all.substr(at, text.size()) != text) {
    const auto mark =
        std::find_if(marks_.begin(), marks_.end(), [&](const auto& each) {
          return all.substr(at, each.size()) == each;
        });
    if (mark != marks_.end()) {
      at += mark->size();
    } else if (
        at < all.size() &&
        std::string_view(" \t\r\n").find(all[at]) != std::string_view::npos) {
      ++at;
    } else {
      return all.find(text, at);
    }
  }
  return at;
}

std::vector<TokenText> AnswerTokens::take(std::string_view text) {
  const size_t at = find(text);
  if (at == std::string_view::npos) {
    return take_all();
  }
  const size_t begin = taken_ + at;
  const size_t end = begin + text.size();
  std::vector<TokenText> taken;
  size_t count = 0;
  for (; count < placed_.size() && placed_[count].begin < end; ++count) {
    if (placed_[count].end > begin) {
      taken.push_back(std::move(placed_[count].token));
    }
  }
  placed_.erase(
      placed_.begin(), placed_.begin() + static_cast<ptrdiff_t>(count));
  text_.erase(0, at + text.size());
  taken_ = end;
  return taken;
}

std::vector<TokenText> AnswerTokens::take_all() {
  std::vector<TokenText> taken;
  for (Placed& each : std::exchange(placed_, {})) {
    taken.push_back(std::move(each.token));
  }
  taken.insert(
      taken.end(),
      std::make_move_iterator(without_text_.begin()),
      std::make_move_iterator(without_text_.end()));
  without_text_.clear();
  taken_ += text_.size();
  text_.clear();
  return taken;
}

} // namespace mlx_flash::server
