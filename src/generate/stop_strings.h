// Finds stop strings in text that arrives piece by piece. push() returns the
// text that is certain not to belong to one; what could still become one is
// held back. How the text is cut into pieces changes nothing.
//
// The first stop string to be complete ends the text, and of several that are
// complete at the same byte the longest. The text before it is returned,
// itself and all after it is not.
//
// Thread rule: one thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlx_flash {

class StopStrings {
 public:
  // Throws Error(invalid_argument) for an empty one, which would end every
  // text at once.
  explicit StopStrings(const std::vector<std::string>& stop_strings);

  // After finished() there is nothing more to return.
  std::string push(std::string_view text);
  // The text is over: what was held back.
  std::string flush();

  bool finished() const {
    return !found_.empty();
  }
  // The one that ended the text, the longest where several did; empty before.
  const std::string& found() const {
    return found_;
  }

 private:
  // Knuth, Morris and Pratt: the length of the longest beginning of `text`
  // that the pushed text ends with.
  struct Matcher {
    std::string text;
    std::vector<size_t> fallback; // the same, of each beginning of itself
    size_t matched = 0;

    explicit Matcher(std::string stop_string);
    bool advance(char c); // true when complete
  };

  std::vector<Matcher> matchers_;
  std::string held_;
  std::string found_;
};

} // namespace mlx_flash
