// For tests: answers of the demo model that are on their way, and what they
// come to alone.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "engine/test_demo.h"
#include "engine/test_listener.h"

namespace mlx_flash {

inline constexpr uint64_t kPage = 64; // tokens

inline GenerationOptions explained(uint64_t tokens) {
  GenerationOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  options.logprobs = true;
  options.sampling.temperature = 1;
  options.sampling.seed = 5;
  return options;
}

inline std::vector<TokenId> some_tokens(uint64_t seed, size_t count) {
  Rng rng(seed);
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<TokenId>(260 + rng.below(500)));
  }
  return tokens;
}

inline EngineOptions keeping(uint64_t context_tokens) {
  EngineOptions options = demo_options(24, context_tokens);
  options.prefix_cache = true;
  return options;
}

// One answer on its way.
struct Answer {
  std::unique_ptr<Session> session;
  std::shared_ptr<RecordingListener> listener =
      std::make_shared<RecordingListener>();

  Answer(
      Engine& engine,
      const std::vector<TokenId>& prompt,
      const GenerationOptions& options)
      : session(engine.new_session()) {
    session->start(prompt, options, listener);
  }
  Answer(
      std::unique_ptr<Session> started,
      std::shared_ptr<RecordingListener> its_listener)
      : session(std::move(started)), listener(std::move(its_listener)) {}
};

// Tokens and log-probabilities, whose bits tell more than tokens do.
inline std::vector<std::pair<TokenId, double>> bits(
    const RecordingListener& answer) {
  std::vector<std::pair<TokenId, double>> all;
  for (const ChosenToken& each : answer.chosen) {
    all.push_back({each.id, each.logprob});
  }
  return all;
}

inline std::vector<std::pair<TokenId, double>> alone(
    const std::vector<TokenId>& prompt,
    const GenerationOptions& options) {
  const auto engine = Engine::open(demo_options(24, 1024));
  Answer answer(*engine, prompt, options);
  answer.listener->wait_for_end();
  return bits(*answer.listener);
}

} // namespace mlx_flash
