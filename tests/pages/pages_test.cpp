// Memory is there before it is used, on large pages: what an engine asks of the
// system. A process of its own: what malloc has kept of others' memory would
// serve again, with the pages and hints that it has.
#include <doctest/doctest.h>

#include <chrono>

#include "base/test_wait_for.h"
#include "engine/test_demo.h"
#include "mlx_flash/engine.h"
#include "platform/large_pages.h"
#include "platform/memory_facts.h"
#include "platform/memory_watch.h"
#include "platform/test_mappings.h"

using namespace mlx_flash;

namespace {

EngineOptions demo(uint64_t slots, uint64_t context) {
  EngineOptions options = demo_options(slots, context);
  options.precision = "f32"; // twice the bytes in the KV cache
  return options;
}

} // namespace

TEST_CASE("pages: slots and the KV cache are on large pages") {
  if (!can_hint_large_pages()) {
    return;
  }
  configure_allocator(); // as main() does: what is freed leaves
  // Asked for by an engine, beyond those of one with the least of both.
  const auto hint_bytes = [](uint64_t slots, uint64_t context) {
    const uint64_t before = large_page_hint_bytes();
    const auto engine = Engine::open(demo(slots, context));
    return large_page_hint_bytes() - before;
  };
  // Slots take 10 MB and the cache 6, of which the edges may be on small pages.
  CHECK(hint_bytes(192, 64) >= 3 * kLargePageBytes);
  CHECK(hint_bytes(4, 1024) >= kLargePageBytes);
  CHECK(hint_bytes(4, 64) == 0);
}

TEST_CASE("pages: slots have theirs before they are used") {
  if (!can_populate()) {
    return;
  }
  configure_allocator(); // as main() does: what is freed leaves
  const uint64_t before = anonymous_memory_bytes();
  const auto engine = Engine::open(demo(192, 64));
  const uint64_t slots = 192 * engine->plan().slot_bytes;
  // Dense weights and the tokenizer have half as much.
  CHECK(wait_for(
      [&] { return anonymous_memory_bytes() >= before + slots; },
      std::chrono::seconds(20)));
}
