// Invariant 1, same bits: the logits of a token depend only on the tokens
// before it. One prompt through every combination of slots, policy, reader,
// threads and chunk, alone and in the company of two other sequences; every
// logit is compared, bit for bit, with the resident run's.
#include "kernels/simd_targets.h"

#include <doctest/doctest.h>
#include <hwy/highway.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <utility>

#include "base/rng.h"
#include "engine/engine_core.h"
#include "kernels/byte_dot.h"
#include "platform/memory_facts.h"
#include "storage/memory_reader.h"

using namespace mlx_flash;

namespace {

struct TestModel {
  const char* folder;
  uint64_t experts; // of all layers
  uint64_t experts_per_token;
  uint64_t vocab;
};

constexpr uint64_t kExperts = 192;
constexpr TestModel kDemo{
    MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe",
    kExperts,
    4,
    4096};
constexpr TestModel kMxfp4{MLX_FLASH_TEST_DATA "/parity/mxfp4", 12, 3, 200};

constexpr size_t kPromptTokens = 72;
constexpr size_t kSingleTokens = 6;

std::vector<TokenId> random_tokens(uint64_t seed, size_t n, uint64_t vocab) {
  Rng rng(seed);
  std::vector<TokenId> ids;
  while (ids.size() < n) {
    ids.push_back(static_cast<TokenId>(rng.below(vocab)));
  }
  return ids;
}

struct Case {
  uint64_t slots = kExperts;
  std::string policy = "efd";
  std::string reader = "auto"; // or "memory"
  int threads = 1;
  uint64_t chunk = 512;
  bool company = false;
  bool resident = false;
  std::string precision = "auto";
  TestModel model = kDemo;
};

std::unique_ptr<Engine> open(const Case& c) {
  EngineOptions options;
  options.model = c.model.folder;
  options.memory = "1GB";
  options.context_tokens = 512;
  options.threads = c.threads;
  options.prefill_chunk = c.chunk;
  options.policy = c.policy;
  options.resident = c.resident;
  options.precision = c.precision;
  if (!c.resident) {
    options.slots = c.slots;
  }
  EngineSeams seams;
  if (c.reader == "memory") {
    // Delayed and reordered: arrival order must not matter.
    seams.make_reader = [](const Checkpoint& checkpoint) {
      FaultPlan faults;
      faults.delay = 0.5;
      faults.reorder = 0.5;
      return MemoryReader::load(checkpoint.files(), faults);
    };
  } else {
    options.reader = c.reader;
  }
  return open_engine(options, seams);
}

// Two other users that read and generate until told to stop, and who are at it
// when the constructor returns.
class Company {
 public:
  explicit Company(Engine& engine) {
    for (uint64_t seed : {91, 92}) {
      threads_.emplace_back([this, &engine, seed] {
        for (int i = 0; !stop_; ++i) {
          GenerationOptions options;
          options.max_tokens = 20;
          options.ignore_eos = true;
          bool first = true;
          engine.new_session()->generate(
              random_tokens(seed + i, 5 + seed % 40, kDemo.vocab),
              options,
              [&](std::string_view) {
                if (std::exchange(first, false) && i == 0) {
                  ++started_;
                }
                return !stop_;
              });
        }
      });
    }
    while (started_ < 2) {
      std::this_thread::yield();
    }
  }
  ~Company() {
    stop_ = true;
    for (auto& thread : threads_) {
      thread.join();
    }
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> started_{0};
  std::vector<std::thread> threads_;
};

// Cases whose prompt shared a step with decoding users.
int mixed = 0;

std::vector<float> logits_of(const Case& c) {
  const auto engine = open(c);
  std::optional<Company> company;
  if (c.company) {
    company.emplace(*engine);
  }
  const auto session = engine->new_session();
  const auto prompt = random_tokens(5, kPromptTokens, c.model.vocab);
  const uint64_t before = engine->stats().mixed_steps;
  auto logits = session->extend(prompt);
  mixed += engine->stats().mixed_steps > before ? 1 : 0;
  for (const TokenId id : random_tokens(6, kSingleTokens, c.model.vocab)) {
    const auto row = session->extend({&id, 1});
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
      std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

} // namespace

TEST_CASE(
    "invariant 1, same bits: slots, policy, reader, threads, chunk, "
    "company") {
  Case reference;
  reference.resident = true;
  const auto expected = logits_of(reference);
  REQUIRE(expected.size() == (kPromptTokens + kSingleTokens) * 4096);
  int combinations = 0;
  for (const uint64_t slots :
       {uint64_t{4}, kExperts / 4, kExperts / 2, kExperts}) {
    for (const char* policy : {"lru", "efd"}) {
      for (const char* reader : {"uring", "pread", "memory"}) {
        for (const int threads : {1, 2}) {
          for (const uint64_t chunk : {1, 7, 64, 512}) {
            for (const bool company : {false, true}) {
              const Case c{
                  slots,
                  policy,
                  reader,
                  threads,
                  chunk,
                  company,
                  false,
                  "auto",
                  kDemo};
              CAPTURE(slots);
              CAPTURE(policy);
              CAPTURE(reader);
              CAPTURE(threads);
              CAPTURE(chunk);
              CAPTURE(company);
              CHECK(same_bits(logits_of(c), expected));
              ++combinations;
            }
          }
        }
      }
    }
  }
  CHECK(combinations == 4 * 2 * 3 * 2 * 4 * 2);
  // Half of the cases are without company, a quarter of the others have steps
  // of one row, and a user may be between two answers just then.
  MESSAGE(mixed, " of ", combinations, " prompts in mixed steps");
  CHECK(mixed > combinations / 2 * 3 / 4 / 2);
}

TEST_CASE("invariant 1, same bits: resident runs in any chunk and company") {
  Case reference;
  reference.resident = true;
  const auto expected = logits_of(reference);
  for (const uint64_t chunk : {1, 7, 64}) {
    for (const bool company : {false, true}) {
      Case c = reference;
      c.chunk = chunk;
      c.company = company;
      c.threads = 2;
      CHECK(same_bits(logits_of(c), expected));
    }
  }
}

TEST_CASE("invariant 1, same bits: every kernel path against itself") {
  const auto check = [](const TestModel& model, const char* precision) {
    Case reference;
    reference.model = model;
    reference.resident = true;
    reference.precision = precision;
    const auto expected = logits_of(reference);
    for (const uint64_t slots : {model.experts_per_token, model.experts / 2}) {
      for (const int threads : {1, 2}) {
        for (const uint64_t chunk : {1, 7, 512}) {
          CAPTURE(slots);
          CAPTURE(threads);
          CAPTURE(chunk);
          Case c;
          c.model = model;
          c.slots = slots;
          c.threads = threads;
          c.chunk = chunk;
          c.precision = precision;
          CHECK(same_bits(logits_of(c), expected));
        }
      }
    }
    return expected;
  };
  int paths = 0;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    CAPTURE(name);
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    for (const TestModel& model : {kDemo, kMxfp4}) {
      CAPTURE(model.folder);
      const auto f32 = check(model, "f32");
      const auto int8 = check(model, "int8");
      CHECK(!same_bits(f32, int8)); // or there would be one path alone
      kernels::allow_byte_dot(false);
      CHECK(same_bits(check(model, "int8"), int8));
      kernels::allow_byte_dot(true);
    }
    ++paths;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  MESSAGE(paths, " kernel paths");
}
