#include "engine/page_saver.h"

#include <doctest/doctest.h>

#include <numeric>

#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

constexpr size_t kPage = ops::kKvPageTokens;
constexpr size_t kPages = 200;
constexpr ops::KvShape kShape{1, 1, 32};
constexpr auto kType = kernels::KvType::f32;

struct Fixture {
  TempFolder temp;
  ops::PagedKvCache cache{kShape, kPages* kPage, kType};
  PageStore store{
      {temp.path() / "pages",
       100'000'000,
       "a model",
       ops::kv_page_bytes(kShape, kType),
       kPage}};
  std::vector<TokenId> tokens = std::vector<TokenId>(kPages * kPage);
  std::vector<uint32_t> pages;

  Fixture() {
    std::iota(tokens.begin(), tokens.end(), 0);
    const int sequence = cache.add_sequence();
    REQUIRE(cache.reserve(sequence, static_cast<int>(tokens.size())));
    cache.set_length(sequence, static_cast<int>(tokens.size()));
    pages.assign(cache.pages(sequence).begin(), cache.pages(sequence).end());
  }

  uint64_t held_twice() const {
    return std::count_if(pages.begin(), pages.end(), [&](uint32_t page) {
      return cache.users(page) == 2;
    });
  }
};

} // namespace

TEST_CASE("page saver: holds each page until it has been written") {
  Fixture f;
  PageSaver saver(f.cache, f.store);
  saver.save(f.tokens, f.pages);
  CHECK(f.held_twice() == kPages);
  while (saver.wait(60)) {
  }
  CHECK(f.held_twice() == 0);
  CHECK(f.store.find(f.tokens, 0) == kPages);
}

TEST_CASE("page saver: what is taken back is let go at once, and not written") {
  Fixture f;
  PageSaver saver(f.cache, f.store);
  saver.save(f.tokens, f.pages);
  const auto is_of_second_half = [&](uint32_t page) {
    return page >= f.pages[kPages / 2];
  };
  const uint64_t held = f.held_twice();
  REQUIRE(saver.take_back(is_of_second_half));
  CHECK(f.held_twice() == held - 1);
  CHECK(!saver.is_pending(f.pages.back())); // the latest first
  size_t taken = 1;
  while (saver.take_back(is_of_second_half)) {
    ++taken;
  }
  while (saver.wait(60)) {
  }
  CHECK(f.held_twice() == 0);
  CHECK(f.store.find(f.tokens, 0) == kPages - taken);
}

TEST_CASE("page saver: waits no longer than it is told to") {
  Fixture f;
  PageSaver saver(f.cache, f.store);
  CHECK(!saver.wait(60)); // nothing is pending
  saver.save(f.tokens, f.pages);
  size_t waits = 0;
  while (f.held_twice() > 0) {
    waits += saver.wait(0);
  }
  CHECK(waits > 0);
}

TEST_CASE("page saver: what cannot be written is let go, too") {
  Fixture f;
  PageSaver saver(f.cache, f.store);
  std::filesystem::remove_all(f.temp.path() / "pages");
  saver.save(f.tokens, f.pages);
  while (saver.wait(60)) {
  }
  CHECK(f.held_twice() == 0);
  CHECK(f.store.counts().failed == kPages);
}
