#include "storage/page_index.h"

#include <doctest/doctest.h>

#include <map>

#include "base/rng.h"

using namespace mlx_flash;

namespace {

PageIndex::Time at(int seconds) {
  return PageIndex::Time{} + std::chrono::seconds(seconds);
}

PageIndex::Page page(const std::string& name, int seconds, bool again = false) {
  return {name, 10, at(seconds), again};
}

} // namespace

TEST_CASE("the page that was used least recently goes first") {
  PageIndex index(100);
  index.add(page("b", 2));
  index.add(page("a", 1));
  index.add(page("c", 3));
  CHECK(index.least()->name == "a");
  index.remove("a");
  CHECK(index.least()->name == "b");
  CHECK(index.bytes() == 20);
}

TEST_CASE("pages that were used again stay longer than newer ones") {
  PageIndex index(100);
  index.add(page("used", 1));
  index.add(page("new", 5));
  index.use("used", at(2));
  CHECK(index.least()->name == "new");
  CHECK(index.find("used")->again);
}

TEST_CASE("pages that were used again do not take all of the room") {
  PageIndex index(40);
  index.add(page("a", 1, true));
  index.add(page("b", 2, true));
  index.add(page("c", 3, true));
  index.add(page("new", 9));
  CHECK(index.least()->name == "new"); // three quarters are theirs
  index.add(page("d", 4, true));
  CHECK(index.least()->name == "a");
}

TEST_CASE("there is no least page where there is none") {
  PageIndex index(10);
  CHECK(index.least() == nullptr);
  CHECK(index.find("a") == nullptr);
  index.remove("a");
  CHECK(index.size() == 0);
}

TEST_CASE("sizes add up whatever happens") {
  const uint64_t seed = 5;
  CAPTURE(seed);
  Rng rng(seed);
  PageIndex index(1000);
  std::map<std::string, uint64_t> sizes;
  for (int i = 0; i < 3000; ++i) {
    const std::string name = std::to_string(rng.below(50));
    switch (rng.below(4)) {
      case 0:
        index.remove(name);
        sizes.erase(name);
        break;
      case 1:
        if (sizes.count(name)) {
          index.use(name, at(i));
        }
        break;
      case 2:
        if (const auto* least = index.least()) {
          const std::string gone = least->name;
          index.remove(gone);
          sizes.erase(gone);
        }
        break;
      default:
        sizes[name] = rng.below(100);
        index.add({name, sizes[name], at(i), rng.below(2) == 0});
    }
    uint64_t bytes = 0;
    for (const auto& [each, size] : sizes) {
      bytes += size;
    }
    REQUIRE(index.bytes() == bytes);
    REQUIRE(index.size() == sizes.size());
    REQUIRE((index.least() == nullptr) == sizes.empty());
  }
}
