// What an engine keeps to. Each figure comes with what it is compared with, in
// turn and in one process: a machine's speed changes from minute to minute.
//
// They run on the demo model for an instant, or at length on a model that
// MLX_FLASH_BENCH_MODEL names.
#include <benchmark/benchmark.h>

#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/align.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/memory_speed.h"
#include "engine/test_demo.h"
#include "kernels/kv_page.h"
#include "mlx_flash/bench_figures.h"

extern char** environ;

namespace mlx_flash {
namespace {

constexpr uint64_t kTokens = 8; // of a turn
constexpr uint64_t kDepth = 4096; // of a long context

const char* given_model() {
  return std::getenv("MLX_FLASH_BENCH_MODEL");
}

int turns() {
  return given_model() ? 40 : 2;
}

EngineOptions bench_options(uint64_t context_tokens) {
  EngineOptions options = demo_options(24, context_tokens);
  options.threads = 0;
  options.prefill_chunk = 512;
  if (given_model()) {
    options.model = given_model();
    options.slots.reset();
  }
  return options;
}

EngineOptions resident_options(uint64_t context_tokens) {
  EngineOptions options = bench_options(context_tokens);
  options.slots.reset();
  options.resident = true;
  return options;
}

// A user whose tokens are random: the same ones for everybody.
class User {
 public:
  User(Engine& engine, uint64_t context)
      : vocab_(engine.vocab_size()),
        session_(engine.new_session()),
        context_(context) {
    if (context > 0) {
      session_->extend(random(context), Session::Logits::last);
    }
  }

  // Seconds a token takes behind the context, on the mean of `tokens`.
  double decode(uint64_t tokens) {
    const std::vector<TokenId> ids = random(tokens);
    const double begin = now_seconds();
    for (const TokenId id : ids) {
      session_->extend(std::span(&id, 1), Session::Logits::last);
    }
    const double seconds = now_seconds() - begin;
    session_->rewind(context_);
    return seconds / static_cast<double>(tokens);
  }

  void read(uint64_t tokens) {
    session_->extend(random(tokens), Session::Logits::last);
    session_->rewind(context_);
  }

 private:
  std::vector<TokenId> random(uint64_t count) {
    std::vector<TokenId> ids(count);
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(rng_.below(vocab_));
    }
    return ids;
  }

  const uint64_t vocab_;
  const std::unique_ptr<Session> session_;
  const uint64_t context_;
  Rng rng_{7};
};

// Two that take turns; each is as often the first of a turn as the other.
class Turns {
 public:
  template <typename A, typename B>
  void take(const A& a, const B& b) {
    if (a_.size() % 2 == 0) {
      a_.push_back(a());
      b_.push_back(b());
    } else {
      b_.push_back(b());
      a_.push_back(a());
    }
  }
  double a() const {
    return spread_of(a_)->median;
  }
  double b() const {
    return spread_of(b_)->median;
  }

 private:
  std::vector<double> a_;
  std::vector<double> b_;
};

void bench_streamed_with_a_slot_for_each(benchmark::State& state) {
  const uint64_t prompt = 128;
  const auto resident = Engine::open(resident_options(prompt + kTokens));
  EngineOptions options = bench_options(prompt + kTokens);
  options.slots = resident->plan().experts;
  const auto streamed = Engine::open(options);
  User with_all(*resident, 0);
  User with_slots(*streamed, 0);
  uint64_t misses = 0;
  do { // until all are there
    misses = streamed->stats().expert_misses;
    with_all.read(prompt);
    with_slots.read(prompt);
  } while (streamed->stats().expert_misses > misses);
  Turns turns;
  for (auto _ : state) {
    turns.take(
        [&] { return with_all.decode(kTokens); },
        [&] { return with_slots.decode(kTokens); });
  }
  state.counters["resident_ms"] = 1e3 * turns.a();
  state.counters["streamed_ms"] = 1e3 * turns.b();
  state.counters["ratio"] = turns.b() / turns.a();
  state.counters["misses"] =
      static_cast<double>(streamed->stats().expert_misses - misses);
}

double kv_bytes_per_token(const Plan& plan) {
  const auto found = std::ranges::find(
      plan.accounts, std::string("kv_cache"), &PlanAccount::name);
  const uint64_t tokens =
      round_up(plan.context_tokens, uint64_t{kernels::kKvPageTokens});
  return static_cast<double>(found->bytes) / static_cast<double>(tokens);
}

// How fast the keys and values of a long context are read: by what they add to
// a token's time, and as a share of what reading alone gives beside it.
void bench_long_context(benchmark::State& state) {
  const uint64_t limit = make_plan(bench_options(1)).model_context;
  const uint64_t depth = std::min(kDepth, limit - 1);
  const auto engine = Engine::open(resident_options(depth + 2));
  const uint64_t probe = memory_probe_bytes(0, 1ull << 32);
  const int threads = engine->stats().threads;
  User at_start(*engine, 0);
  User behind(*engine, depth);
  Turns turns;
  std::vector<double> memory;
  for (auto _ : state) {
    memory.push_back(measure_memory_speed(threads, probe, 0.1));
    turns.take(
        [&] { return at_start.decode(1); }, [&] { return behind.decode(1); });
  }
  const double speed = static_cast<double>(depth) *
      kv_bytes_per_token(engine->plan()) / (turns.b() - turns.a()) / 1e9;
  state.counters["ms_at_0"] = 1e3 * turns.a();
  state.counters["ms_behind"] = 1e3 * turns.b();
  state.counters["GB/s"] = speed;
  state.counters["share"] = speed / spread_of(memory)->median;
}

// A process that keeps processor 0 busy while it lives.
class Neighbour {
 public:
  Neighbour() {
    std::string words[] = {
        "timeout",
        "60",
        "taskset",
        "-c",
        "0",
        "sh",
        "-c",
        "while :; do :; done"};
    std::vector<char*> arguments;
    for (std::string& word : words) {
      arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);
    there_ = posix_spawnp(
                 &process_,
                 arguments[0],
                 nullptr,
                 nullptr,
                 arguments.data(),
                 environ) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // it starts
  }
  ~Neighbour() {
    if (there_) {
      kill(process_, SIGTERM);
      waitpid(process_, nullptr, 0);
    }
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

 private:
  pid_t process_ = 0;
  bool there_ = false;
};

// A token's speed beside a busy process, as a share of that without. Streamed,
// a quarter of the experts have slots.
void bench_busy_neighbour(benchmark::State& state) {
  EngineOptions options = resident_options(256);
  if (state.range(0) == 0) {
    options.resident = false;
    options.slots = make_plan(bench_options(256)).experts / 4;
  }
  const auto engine = Engine::open(options);
  User user(*engine, 0);
  user.read(128);
  Turns turns;
  for (auto _ : state) {
    turns.take(
        [&] { return user.decode(kTokens); },
        [&] {
          const Neighbour neighbour;
          return user.decode(kTokens);
        });
  }
  state.counters["quiet_ms"] = 1e3 * turns.a();
  state.counters["busy_ms"] = 1e3 * turns.b();
  state.counters["share"] = turns.a() / turns.b();
}

// What an engine does that waits for a request.
void bench_idle(benchmark::State& state) {
  const auto engine = Engine::open(bench_options(256));
  User(*engine, 0).read(128);
  const std::chrono::duration<double> wait(given_model() ? 10 : 0.05);
  std::this_thread::sleep_for(wait / 10); // its threads spin for an instant
  rusage before{};
  rusage after{};
  for (auto _ : state) {
    getrusage(RUSAGE_SELF, &before);
    std::this_thread::sleep_for(wait);
    getrusage(RUSAGE_SELF, &after);
  }
  const auto cpu_us = [](const rusage& used) {
    return 1e6 *
        static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
        static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  };
  state.counters["cpu_us"] = cpu_us(after) - cpu_us(before);
  state.counters["switches"] = static_cast<double>(
      after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw);
}

BENCHMARK(bench_streamed_with_a_slot_for_each)->Iterations(turns());
BENCHMARK(bench_long_context)->Iterations(turns());
BENCHMARK(bench_busy_neighbour)
    ->ArgName("resident")
    ->Arg(1)
    ->Arg(0)
    ->Iterations(turns());
BENCHMARK(bench_idle)->Iterations(1);

} // namespace
} // namespace mlx_flash
