#include "cli/suggest.h"

#include <doctest/doctest.h>

#include <vector>

using namespace mlx_flash::cli;

TEST_CASE("suggest: the edit distance counts single mistakes") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("run", "run") == 0);
  CHECK(edit_distance("", "run") == 3);
  CHECK(edit_distance("rnu", "run") == 1); // a swap
  CHECK(edit_distance("rum", "run") == 1);
  CHECK(edit_distance("rrun", "run") == 1);
  CHECK(edit_distance("ru", "run") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("abc", "xyz") == 3);
}

TEST_CASE("suggest: a near name is suggested, a far one is not") {
  const std::vector<std::string> names = {
      "--memory", "--max-tokens", "--top-k", "--top-p", "--temp"};
  CHECK(suggestion("--memroy", names) == " Did you mean '--memory'?");
  CHECK(suggestion("--max-token", names) == " Did you mean '--max-tokens'?");
  CHECK(suggestion("--max_tokens", names) == " Did you mean '--max-tokens'?");
  CHECK(suggestion("--topk", names) == " Did you mean '--top-k'?");
  CHECK(suggestion("-temp", names) == " Did you mean '--temp'?");
  CHECK(suggestion("--xylophone", names) == "");
  CHECK(suggestion("-x", names) == "");
  CHECK(suggestion(std::string(100000, 'm'), names) == "");
  CHECK(suggestion("--memory", {}) == "");
}
