// Requests that come and go as they like in a KV cache that does not hold them
// all, so that they wait, give way and begin again.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <optional>

#include "base/test_wait_for.h"
#include "engine/test_answers.h"

using namespace mlx_flash;

namespace {

struct Caller {
  std::vector<TokenId> prompt;
  uint64_t wanted = 0; // tokens
  uint64_t leaves_after = UINT64_MAX; // calls of its listener
  std::atomic<uint64_t> calls = 0;
  std::optional<Answer> answer;

  explicit Caller(Rng& rng)
      : prompt(some_tokens(rng.below(1000), 5 + rng.below(2 * kPage))),
        wanted(1 + rng.below(3 * kPage)) {
    if (rng.below(2) == 0) {
      leaves_after = rng.below(150);
    }
  }

  void start(Engine& engine) {
    auto session = engine.new_session();
    auto listener = std::make_shared<RecordingListener>();
    const auto leave = [this, to = session.get()] {
      if (calls++ == leaves_after) {
        to->cancel();
      }
    };
    listener->at_text = leave;
    listener->at_progress = [leave](const GenerationProgress&) { leave(); };
    session->start(prompt, explained(wanted), listener);
    answer.emplace(std::move(session), std::move(listener));
  }

  void check() const {
    const RecordingListener& listener = *answer->listener;
    REQUIRE(listener.error == nullptr);
    auto expected = alone(prompt, explained(wanted));
    const bool left = listener.result.finish_reason == FinishReason::cancelled;
    if (left) {
      CHECK(leaves_after < UINT64_MAX);
      REQUIRE(listener.tokens.size() <= wanted);
      expected.resize(listener.tokens.size());
    }
    CHECK(bits(listener) == expected);
    if (!listener.tokens.empty()) {
      // The last one has not been read yet.
      CHECK(
          answer->session->length() ==
          prompt.size() + listener.tokens.size() - 1);
    }
  }
};

} // namespace

TEST_CASE("admission: whoever leaves, the others answer as they would alone") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    EngineOptions options = keeping(6 * kPage);
    options.prefill_chunk = 32;
    const auto engine = Engine::open(options);
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < 8; ++i) {
      callers.push_back(std::make_unique<Caller>(rng));
      callers.back()->start(*engine);
    }
    for (const auto& each : callers) {
      each->answer->listener->wait_for_end();
      each->check();
    }
    callers.clear();
    CHECK(wait_for([&] {
      const Stats stats = engine->stats();
      return stats.kv_pages_used == stats.kv_pages_kept;
    }));
    MESSAGE("seed ", seed, ": ", engine->stats().preemptions, " preemptions");
  }
}
