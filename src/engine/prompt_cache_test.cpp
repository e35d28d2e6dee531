// What was read once is not read again, by later processes either.
#include <doctest/doctest.h>

#include <fstream>

#include "engine/test_answers.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

struct Folder {
  TempFolder temp;

  std::filesystem::path path() const {
    return temp.path() / "pages";
  }
  EngineOptions options(uint64_t context_tokens = 1024) const {
    EngineOptions options = keeping(context_tokens);
    options.prompt_cache = path();
    options.prompt_cache_bytes = 100'000'000;
    options.build = "of today";
    return options;
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& each : std::filesystem::directory_iterator(path())) {
      if (each.path().filename() != "lock") {
        found.push_back(each.path());
      }
    }
    return found;
  }
};

// Which is as it would be alone.
uint64_t cached_tokens(
    Engine& engine,
    const std::vector<TokenId>& prompt,
    uint64_t length = 12) {
  Answer answer(engine, prompt, explained(length));
  answer.listener->wait_for_end();
  REQUIRE(answer.listener->error == nullptr);
  CHECK(bits(*answer.listener) == alone(prompt, explained(length)));
  return answer.listener->result.cached_tokens;
}

const std::vector<TokenId> kPrompt = some_tokens(1, 5 * kPage + 20);

void read_prompt(const EngineOptions& options) {
  const auto engine = Engine::open(options);
  CHECK(cached_tokens(*engine, kPrompt) == 0);
}

} // namespace

TEST_CASE("invariant 1: what an earlier process has read has the same bits") {
  const Folder folder;
  read_prompt(folder.options());
  CHECK(folder.files().size() == 5);
  const auto engine = Engine::open(folder.options());
  CHECK(cached_tokens(*engine, kPrompt) == 5 * kPage);
  const Stats stats = engine->stats();
  CHECK(stats.restored_tokens == 5 * kPage);
  CHECK(stats.prompt_cache_read == 5);
  CHECK(stats.prompt_cache_written == 0); // they are there already
  CHECK(stats.prefill_tokens == 20);
  // Now they are in memory.
  CHECK(cached_tokens(*engine, kPrompt) == 5 * kPage);
  CHECK(engine->stats().restored_tokens == 5 * kPage);
}

TEST_CASE("prompt cache: a conversation goes on after a restart") {
  const Folder folder;
  auto prompt = some_tokens(3, 50);
  {
    const auto engine = Engine::open(folder.options());
    Answer answer(*engine, prompt, explained(2 * kPage));
    answer.listener->wait_for_end();
    for (const TokenId id : answer.listener->result.tokens) {
      prompt.push_back(id);
    }
  }
  const auto engine = Engine::open(folder.options());
  CHECK(cached_tokens(*engine, prompt) == 2 * kPage);
}

TEST_CASE("prompt cache: part from memory, part from disk, part anew") {
  const Folder folder;
  read_prompt(folder.options());
  const auto engine = Engine::open(folder.options());
  auto shorter = kPrompt;
  shorter.resize(2 * kPage + 5);
  CHECK(cached_tokens(*engine, shorter) == 2 * kPage);
  auto longer = kPrompt;
  for (const TokenId id : some_tokens(2, 100)) {
    longer.push_back(id);
  }
  CHECK(cached_tokens(*engine, longer) == 5 * kPage);
  CHECK(engine->stats().restored_tokens == 5 * kPage);
}

TEST_CASE("prompt cache: a damaged page is read anew, with the same bits") {
  const Folder folder;
  read_prompt(folder.options());
  for (const auto& file : folder.files()) {
    std::fstream stream(file, std::ios::in | std::ios::out);
    stream.seekp(-5000, std::ios::end);
    stream.put(1).put(2).put(3);
  }
  {
    const auto engine = Engine::open(folder.options());
    CHECK(cached_tokens(*engine, kPrompt) == 0);
    CHECK(engine->stats().prompt_cache_failed == 1);
  }
  // The first is whole again; the second one is met now.
  const auto engine = Engine::open(folder.options());
  CHECK(cached_tokens(*engine, kPrompt) >= kPage);
}

TEST_CASE("prompt cache: pages of another build or precision are not used") {
  const Folder folder;
  read_prompt(folder.options());
  EngineOptions options = folder.options();
  options.build = "of tomorrow";
  read_prompt(options);
  options = folder.options();
  options.precision = "f32";
  const auto engine = Engine::open(options);
  Answer answer(*engine, kPrompt, explained(2));
  answer.listener->wait_for_end();
  CHECK(answer.listener->result.cached_tokens == 0);
}

TEST_CASE("prompt cache: a folder is one engine's") {
  const Folder folder;
  const auto engine = Engine::open(folder.options());
  CHECK_THROWS_WITH_AS(
      Engine::open(folder.options()), doctest::Contains("in use"), Error);
}

TEST_CASE("prompt cache: pages that are being written give way, too") {
  const Folder folder;
  const auto engine = Engine::open(folder.options(4 * kPage));
  for (uint64_t seed = 0; seed < 12; ++seed) {
    CHECK(cached_tokens(*engine, some_tokens(seed, 3 * kPage), 4) == 0);
  }
  CHECK(engine->stats().kv_pages_used <= 4);
}

TEST_CASE("prompt cache: many that begin alike answer as they would alone") {
  const Folder folder;
  read_prompt(folder.options());
  const auto engine = Engine::open(folder.options(12 * kPage));
  std::vector<Answer> answers;
  std::vector<std::vector<TokenId>> prompts;
  for (uint64_t i = 0; i < 6; ++i) {
    auto prompt = kPrompt;
    prompt.resize((i + 1) * 50);
    prompt.push_back(300 + static_cast<TokenId>(i));
    prompts.push_back(prompt);
    answers.emplace_back(*engine, prompt, explained(40));
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].listener->wait_for_end();
    REQUIRE(answers[i].listener->error == nullptr);
    CHECK(bits(*answers[i].listener) == alone(prompts[i], explained(40)));
    answers[i].session = nullptr;
  }
}

TEST_CASE("prompt cache: a request that is being restored can be cancelled") {
  const Folder folder;
  read_prompt(folder.options());
  const auto engine = Engine::open(folder.options());
  const auto session = engine->new_session();
  const auto listener = std::make_shared<RecordingListener>();
  listener->at_progress = [&](const GenerationProgress&) { session->cancel(); };
  session->start(kPrompt, explained(5), listener);
  listener->wait_for_end();
  CHECK(listener->result.finish_reason == FinishReason::cancelled);
  CHECK(listener->tokens.empty());
  CHECK(cached_tokens(*engine, kPrompt) == 5 * kPage);
}

TEST_CASE("prompt cache: is in the plan") {
  const Folder folder;
  const Plan with = make_plan(folder.options());
  const Plan without = make_plan(keeping(1024));
  CHECK(with.planned_bytes > without.planned_bytes + 2'000'000);
}

TEST_CASE("prompt cache: needs prefixes to be kept") {
  const Folder folder;
  EngineOptions options = folder.options();
  options.prefix_cache = false;
  CHECK_THROWS_AS(make_plan(options), Error);
}
