// Which tokens each part of an answer consists of, for log-probabilities: the
// parser of answers tells text alone, later than it came, and without marks.
//
// Thread rule: belongs to one answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/job.h"

namespace mlx_flash::server {

class AnswerTokens {
 public:
  // `marks` are not text of any part.
  explicit AnswerTokens(std::vector<std::string> marks);

  // `tokens` were chosen and `text` has become certain. Text may come later
  // than its tokens; they wait for it.
  void push(std::string_view text, std::vector<TokenText> tokens);

  // Those of `text`, which is a part that has become known. What comes before
  // it and is blank or a mark belongs to no part.
  std::vector<TokenText> take(std::string_view text);
  // All that are left, of text that is written otherwise than it was told.
  std::vector<TokenText> take_all();

 private:
  struct Placed {
    TokenText token;
    size_t begin = 0; // in all text of the answer
    size_t end = 0;
  };

  size_t find(std::string_view text) const;

  const std::vector<std::string> marks_;
  std::string text_; // of no part yet
  size_t taken_ = 0; // how much there was before
  std::vector<Placed> placed_;
  std::vector<TokenText> without_text_; // so far
};

} // namespace mlx_flash::server
