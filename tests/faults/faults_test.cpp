// Invariant 4, a read error is an error: every fault of the disk ends the
// requests that needed the bytes, by name, or is mended by reading on; it
// never changes a token, and the engine lives on.
#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "engine/engine_core.h"
#include "engine/test_demo.h"
#include "mlx_flash/verify.h"
#include "platform/temp_folder.h"
#include "storage/expert_layout.h"
#include "storage/memory_reader.h"
#include "storage/test_forwarding_reader.h"

using namespace mlx_flash;

namespace {

const std::vector<TokenId> kPrompt{497, 487, 261, 416};
constexpr uint64_t kTokens = 12;

// Holds up whoever waits for a read while it is closed.
class Gate {
 public:
  void close() {
    std::lock_guard lock(mutex_);
    open_ = false;
    visited_ = false;
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    visited_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void wait_for_visitor() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return visited_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  bool visited_ = false;
};

// A reader behind a gate.
class GatedReader : public ForwardingReader {
 public:
  GatedReader(std::unique_ptr<Reader> reader, Gate& gate)
      : ForwardingReader(std::move(reader)), gate_(gate) {}

  size_t wait(std::vector<ReadCompletion>& completions) override {
    gate_.pass();
    return ForwardingReader::wait(completions);
  }
  size_t poll(std::vector<ReadCompletion>&) override {
    return 0; // none are there yet, so that everybody has to wait
  }

 private:
  Gate& gate_;
};

// A call of extend() on a thread of its own.
class User {
 public:
  User(Session& session, std::vector<TokenId> tokens)
      : thread_([this, &session, tokens = std::move(tokens)] {
          try {
            logits_ = session.extend(tokens);
          } catch (const std::exception& error) {
            error_ = error.what();
          }
        }) {}
  void join() {
    thread_.join();
  }
  const std::string& error() const {
    return error_;
  }
  const std::vector<float>& logits() const {
    return logits_;
  }

 private:
  std::string error_;
  std::vector<float> logits_;
  std::thread thread_;
};

// An engine over a disk whose faults can be changed while it runs.
struct FaultyEngine {
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  MemoryReader* disk = nullptr; // owned by the engine
  std::unique_ptr<Engine> engine;

  explicit FaultyEngine(const std::filesystem::path& checksums = {}) {
    // Context for three sessions, by pages of 64.
    EngineOptions options = demo_options(16, 256);
    options.memory = "1GB";
    options.checksums = checksums;
    EngineSeams seams;
    seams.make_reader = [this](const Checkpoint& checkpoint) {
      auto reader = MemoryReader::load(checkpoint.files(), FaultPlan{});
      disk = reader.get();
      return std::make_unique<GatedReader>(std::move(reader), *gate);
    };
    engine = open_engine(options, seams);
  }

  std::vector<TokenId> tokens() {
    GenerationOptions options;
    options.max_tokens = kTokens;
    options.ignore_eos = true;
    return engine->new_session()->generate(kPrompt, options).tokens;
  }
};

FaultPlan with(double FaultPlan::* fault, double probability, uint64_t seed) {
  FaultPlan plan;
  plan.seed = seed;
  plan.*fault = probability;
  return plan;
}

// Runs under `faults` several times: either the right tokens or one error
// that names the file and an offset. Returns how often it failed.
int run_with(FaultyEngine& e, double FaultPlan::* fault, double probability) {
  int failures = 0;
  e.disk->set_faults(FaultPlan{});
  const auto expected = e.tokens();
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    e.disk->set_faults(with(fault, probability, seed));
    try {
      const auto tokens = e.tokens();
      CHECK(tokens == expected);
    } catch (const Error& error) {
      ++failures;
      const std::string message = error.what();
      CAPTURE(message);
      CHECK(error.code() == ErrorCode::io);
      CHECK(message.find("model.safetensors") != std::string::npos);
      CHECK(message.find("offset") != std::string::npos);
      CHECK(message.find("expert") != std::string::npos);
      CHECK(message.find('\n') == std::string::npos);
    }
    // Usable afterwards, with the right tokens.
    e.disk->set_faults(FaultPlan{});
    CHECK(e.tokens() == expected);
  }
  CHECK(e.disk->injected() > 0);
  return failures;
}

// A file of checksums that is removed again.
struct ChecksumFile {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / "mlx-flash-faults-checksums";
  ChecksumFile() {
    EngineOptions options;
    options.model = kDemoModel;
    write_checksums(options, path);
  }
  ~ChecksumFile() {
    std::filesystem::remove(path);
  }
};

} // namespace

TEST_CASE("invariant 4: delays and reordering change nothing") {
  FaultyEngine e;
  CHECK(run_with(e, &FaultPlan::delay, 0.7) == 0);
  CHECK(run_with(e, &FaultPlan::reorder, 0.7) == 0);
}

TEST_CASE("invariant 4: short reads are continued") {
  FaultyEngine e;
  CHECK(run_with(e, &FaultPlan::short_read, 0.5) == 0);
}

TEST_CASE("invariant 4: a failed read is one error with file and offset") {
  FaultyEngine e;
  CHECK(run_with(e, &FaultPlan::io_error, 0.01) > 0);
  CHECK(run_with(e, &FaultPlan::io_error, 1) == 12);
}

TEST_CASE("invariant 4: with checksums a flipped bit is an error") {
  const ChecksumFile checksums;
  FaultyEngine e(checksums.path);
  CHECK(run_with(e, &FaultPlan::corruption, 0.01) > 0);
  CHECK(run_with(e, &FaultPlan::corruption, 1) == 12);
}

TEST_CASE("invariant 4: an error reaches the sessions of its step alone") {
  FaultyEngine e;
  const auto before = e.engine->new_session();
  const auto logits = before->extend(kPrompt);
  e.disk->set_faults(with(&FaultPlan::io_error, 1, 3));
  const auto failing = e.engine->new_session();
  CHECK_THROWS_AS(failing->extend(std::vector<TokenId>{900, 901, 902}), Error);
  // The failed step left nothing behind, and the other session its tokens.
  CHECK(failing->length() == 0);
  CHECK(before->length() == kPrompt.size());
  e.disk->set_faults(FaultPlan{});
  CHECK(failing->extend(kPrompt) == logits);
}

// Two users in one step, one of whom needs an expert that cannot be read.
TEST_CASE("invariant 4: an error reaches those who needed the bytes alone") {
  const std::vector<TokenId> other_prompt{900, 901, 902};
  FaultyEngine e;
  const auto checkpoint = Checkpoint::open(kDemoModel);
  const ExpertLayout layout(checkpoint);
  const auto works = [&](const std::vector<TokenId>& prompt) {
    try {
      e.engine->new_session()->extend(prompt);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  // An expert of the last layer that the first prompt needs and the second
  // does not. The bank has too few slots to hold what was read before.
  const uint16_t last = layout.layers().back().layer;
  std::optional<FaultPlan> bad;
  for (uint16_t expert = 0; expert < 32 && !bad; ++expert) {
    const Section section = layout.sections({last, expert})[0];
    FaultPlan plan;
    plan.bad_begin = section.file_offset;
    plan.bad_end = section.file_offset + section.bytes;
    e.disk->set_faults(plan);
    if (!works(kPrompt) && works(other_prompt)) {
      bad = plan;
    }
  }
  REQUIRE(bad);
  e.disk->set_faults(FaultPlan{});
  const auto expected = e.engine->new_session()->extend(other_prompt);

  e.disk->set_faults(*bad);
  int shared = 0;
  for (int round = 0; round < 20 && shared < 3; ++round) {
    const auto busy = e.engine->new_session();
    const auto first = e.engine->new_session();
    const auto second = e.engine->new_session();
    const uint64_t steps = e.engine->stats().steps;
    e.gate->close();
    User third(*busy, std::vector<TokenId>{700, 701, 702});
    e.gate->wait_for_visitor();
    User failing(*first, kPrompt);
    User other(*second, other_prompt);
    // The engine is in the third user's step; both are in its queue by now.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    e.gate->open();
    third.join();
    failing.join();
    other.join();
    CHECK(failing.error().find("offset") != std::string::npos);
    CHECK(other.error() == "");
    CHECK(other.logits() == expected);
    CHECK(first->length() == 0);
    // A step of the third, one of both, and one for each of them alone.
    shared += e.engine->stats().steps - steps == 4 ? 1 : 0;
  }
  CHECK(shared == 3);
}

TEST_CASE("engine: a step that failed adds no seconds to the next one's") {
  constexpr std::chrono::milliseconds kHeldUp(300);
  FaultyEngine e;
  const auto first = e.engine->new_session();
  const auto second = e.engine->new_session();
  e.disk->set_faults(with(&FaultPlan::io_error, 1, 1));
  e.gate->close();
  User failing(*first, kPrompt);
  e.gate->wait_for_visitor();
  e.disk->set_faults(FaultPlan{}); // from the next step on
  User other(*second, std::vector<TokenId>{900, 901, 902});
  std::this_thread::sleep_for(kHeldUp);
  e.gate->open();
  failing.join();
  other.join();
  CHECK(failing.error().find("offset") != std::string::npos);
  CHECK(other.error() == "");
  const Stats stats = e.engine->stats();
  CHECK(stats.prefill_seconds > 0);
  CHECK(stats.prefill_seconds < std::chrono::duration<double>(kHeldUp).count());
}

// The file is cut short behind the engine's back.
TEST_CASE("invariant 4: a truncated file is an error with every real reader") {
  for (const char* reader : {"auto", "pread"}) {
    CAPTURE(reader);
    const TempFolder folder;
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(kDemoModel / name, folder.path() / name);
    }
    EngineOptions options;
    options.model = folder.path();
    options.memory = "100MB";
    options.slots = 8;
    options.context_tokens = 64;
    options.reader = reader;
    const auto engine = Engine::open(options);
    const auto expected = engine->new_session()->extend(kPrompt);
    const auto file = folder.path() / "model.safetensors";
    std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
    CHECK_THROWS_WITH_AS(
        engine->new_session()->extend(kPrompt),
        doctest::Contains("model.safetensors"),
        Error);
    // What the file held is there again.
    std::filesystem::copy_file(
        kDemoModel / "model.safetensors",
        file,
        std::filesystem::copy_options::overwrite_existing);
    CHECK(engine->new_session()->extend(kPrompt) == expected);
  }
}

TEST_CASE("invariant 4: a failed read while loading is an error") {
  EngineOptions options;
  options.model = kDemoModel;
  options.memory = "1GB";
  EngineSeams seams;
  seams.make_reader = [](const Checkpoint& checkpoint) {
    return MemoryReader::load(
        checkpoint.files(), with(&FaultPlan::io_error, 0.2, 1));
  };
  CHECK_THROWS_WITH_AS(
      open_engine(options, seams),
      doctest::Contains("model.safetensors"),
      Error);
}
