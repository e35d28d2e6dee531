#include "residency/prefix_index.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/rng.h"

using namespace mlx_flash;

namespace {

using Tokens = std::vector<uint32_t>;
using Pages = std::vector<uint32_t>;

bool any(uint32_t) {
  return true;
}

} // namespace

TEST_CASE("prefix index: finds whole pages of the longest known beginning") {
  PrefixIndex index(2);
  CHECK(index.find(Tokens{1, 2, 3}).empty());
  CHECK(index.insert(Tokens{1, 2, 3, 4, 5}, Pages{10, 11}) == Pages{10, 11});
  CHECK(index.find(Tokens{1, 2, 3, 4, 5, 6}) == Pages{10, 11});
  CHECK(index.find(Tokens{1, 2, 3, 4}) == Pages{10, 11});
  CHECK(index.find(Tokens{1, 2, 3}) == Pages{10});
  CHECK(index.find(Tokens{1, 2, 4, 4}) == Pages{10});
  CHECK(index.find(Tokens{3, 4, 1, 2}).empty());
  CHECK(index.find(Tokens{1}).empty());
  CHECK(index.size() == 2);
}

TEST_CASE("prefix index: a page belongs to all that is before it") {
  PrefixIndex index(2);
  index.insert(Tokens{1, 2, 7, 8}, Pages{0, 1});
  index.insert(Tokens{3, 4, 7, 8}, Pages{2, 3});
  CHECK(index.find(Tokens{1, 2, 7, 8}) == Pages{0, 1});
  CHECK(index.find(Tokens{3, 4, 7, 8}) == Pages{2, 3});
  CHECK(index.find(Tokens{7, 8}).empty());
}

TEST_CASE("prefix index: of a known block the first page stays") {
  PrefixIndex index(2);
  index.insert(Tokens{1, 2, 3, 4}, Pages{0, 1});
  CHECK(index.insert(Tokens{1, 2, 5, 6}, Pages{7, 8}) == Pages{8});
  CHECK(index.find(Tokens{1, 2, 5, 6}) == Pages{0, 8});
  CHECK(index.insert(Tokens{1, 2, 3, 4}, Pages{0, 1}).empty());
}

TEST_CASE("prefix index: the least recently used end goes first") {
  PrefixIndex index(1);
  index.insert(Tokens{1, 2}, Pages{0, 1});
  index.insert(Tokens{1, 3}, Pages{0, 2});
  index.insert(Tokens{4}, Pages{3});
  index.find(Tokens{1, 2}); // so 3 and then 4 are the oldest
  CHECK(index.evict(any) == 2);
  CHECK(index.evict(any) == 3);
  CHECK(index.find(Tokens{4}).empty());
  CHECK(index.evict(any) == 1); // not 0, which 1 needs
  CHECK(index.evict(any) == 0);
  CHECK(!index.evict(any));
  CHECK(index.size() == 0);
}

TEST_CASE("prefix index: what may not go stays, with all before it") {
  PrefixIndex index(1);
  index.insert(Tokens{1, 2}, Pages{0, 1});
  index.insert(Tokens{3}, Pages{2});
  const auto not_1 = [](uint32_t page) { return page != 1; };
  CHECK(index.evict(not_1) == 2);
  CHECK(!index.evict(not_1));
  CHECK(index.find(Tokens{1, 2}) == Pages{0, 1});
}

TEST_CASE("prefix index: tells what may go with all that needs it") {
  PrefixIndex index(1);
  index.insert(Tokens{1, 2, 3}, Pages{0, 1, 2});
  index.insert(Tokens{1, 4}, Pages{0, 3});
  index.insert(Tokens{5, 6}, Pages{4, 5});
  const auto all_but = [&](uint32_t stays) {
    auto pages = index.removable([=](uint32_t page) { return page != stays; });
    std::sort(pages.begin(), pages.end());
    return pages;
  };
  CHECK(all_but(9) == Pages{0, 1, 2, 3, 4, 5});
  CHECK(all_but(2) == Pages{3, 4, 5});
  CHECK(all_but(3) == Pages{1, 2, 4, 5});
  CHECK(all_but(4) == Pages{0, 1, 2, 3, 5});
  index.find(Tokens{1, 2}); // its own end is older than it now
  CHECK(all_but(2) == Pages{3, 4, 5});
}

TEST_CASE("prefix index: behaves as a map of beginnings") {
  const uint64_t seed = 91;
  CAPTURE(seed);
  Rng rng(seed);
  PrefixIndex index(2);
  std::map<Tokens, uint32_t> model; // whole blocks and the page of the last
  uint32_t next_page = 0;
  for (int step = 0; step < 4000; ++step) {
    Tokens tokens;
    for (uint64_t n = rng.below(9); n > 0; --n) {
      tokens.push_back(static_cast<uint32_t>(rng.below(2)));
    }
    Pages expected;
    for (size_t n = 2; n <= tokens.size(); n += 2) {
      const auto known = model.find(Tokens(tokens.begin(), tokens.begin() + n));
      if (known == model.end()) {
        break;
      }
      expected.push_back(known->second);
    }
    CHECK(index.find(tokens) == expected);
    if (rng.below(3) == 0) {
      Pages pages;
      Pages taken;
      for (size_t n = 2; n <= tokens.size(); n += 2) {
        pages.push_back(next_page++);
        const Tokens head(tokens.begin(), tokens.begin() + n);
        if (model.insert({head, pages.back()}).second) {
          taken.push_back(pages.back());
        }
      }
      CHECK(index.insert(tokens, pages) == taken);
    } else if (rng.below(3) == 0) {
      const auto gone = index.evict(any);
      CHECK(gone.has_value() == !model.empty());
      if (gone) {
        const auto at =
            std::find_if(model.begin(), model.end(), [&](const auto& each) {
              return each.second == *gone;
            });
        REQUIRE(at != model.end());
        const bool needed =
            std::any_of(model.begin(), model.end(), [&](const auto& each) {
              return each.first.size() > at->first.size() &&
                  std::equal(
                         at->first.begin(),
                         at->first.end(),
                         each.first.begin());
            });
        CHECK(!needed);
        model.erase(at);
      }
    }
    CHECK(index.size() == model.size());
  }
}

TEST_CASE("prefix index: a path as deep as a long context can be destroyed") {
  PrefixIndex index(1);
  Tokens tokens(200000);
  Pages pages(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<uint32_t>(i);
    pages[i] = static_cast<uint32_t>(i);
  }
  index.insert(tokens, pages);
  CHECK(index.find(tokens).size() == tokens.size());
}
