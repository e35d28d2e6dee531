#include "engine/bench_cases.h"

#include <doctest/doctest.h>

#include "base/error.h"

using namespace mlx_flash;

namespace {

constexpr uint64_t kAll = 1 << 20; // of context, and of memory

BenchCase prefill(uint64_t tokens) {
  return {BenchKind::prefill, 0, tokens};
}
BenchCase decode(uint64_t context, uint64_t tokens = 32) {
  return {BenchKind::decode, context, tokens};
}

// Memory holds so many tokens.
BenchCases choose(
    const BenchOptions& options,
    uint64_t context_tokens = kAll,
    uint64_t memory_tokens = kAll) {
  return choose_cases(options, context_tokens, [=](uint64_t room_tokens) {
    Plan plan;
    plan.fits = room_tokens <= memory_tokens;
    plan.smallest_budget_bytes = 1000 * room_tokens;
    plan.budget_bytes = 1000 * memory_tokens;
    plan.budget_source = "--memory";
    return plan;
  });
}

ErrorCode refusal(
    const BenchOptions& options,
    uint64_t context_tokens = kAll,
    uint64_t memory_tokens = kAll) {
  try {
    choose(options, context_tokens, memory_tokens);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).starts_with("[bench] "));
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

} // namespace

TEST_CASE("bench cases: the usual ones") {
  const BenchCases chosen = choose({});
  CHECK(
      chosen.cases ==
      std::vector{
          prefill(128),
          prefill(512),
          prefill(2048),
          decode(0),
          decode(512),
          decode(4096)});
  CHECK(chosen.notes.empty());
}

TEST_CASE("bench cases: what was asked for, in that order") {
  BenchOptions options;
  options.prefill = {{7, 3}};
  options.contexts = {{5}};
  options.decode_tokens = 4;
  const BenchCases chosen = choose(options, 9, 9);
  CHECK(chosen.cases == std::vector{prefill(7), prefill(3), decode(5, 4)});
  CHECK(chosen.notes.empty());
}

TEST_CASE("bench cases: either kind may be left out, but not both") {
  BenchOptions options;
  options.prefill = std::vector<uint64_t>{};
  CHECK(choose(options).cases.size() == 3);
  options.contexts = std::vector<uint64_t>{};
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options.prefill = {{1}};
  CHECK(choose(options).cases == std::vector{prefill(1)});
  // Nothing is decoded, so that it has no effect.
  options.decode_tokens = 8;
  CHECK(refusal(options) == ErrorCode::invalid_argument);
}

TEST_CASE("bench cases: the usual ones are cut to the context, with a note") {
  const BenchCases chosen = choose({}, 1024);
  CHECK(
      chosen.cases ==
      std::vector{
          prefill(128),
          prefill(512),
          prefill(1024),
          decode(0),
          decode(512),
          decode(992)});
  REQUIRE(chosen.notes.size() == 2);
  CHECK(
      chosen.notes[0] ==
      "prefill 1024 instead of prefill 2048: the context has 1024 tokens");
  CHECK(
      chosen.notes[1] ==
      "decode at 992 instead of decode at 4096: the context has 1024 tokens");
}

TEST_CASE("bench cases: none is made twice for being cut") {
  const BenchCases chosen = choose({}, 100);
  CHECK(chosen.cases == std::vector{prefill(100), decode(0), decode(68)});
  CHECK(chosen.notes.size() == 5);
}

TEST_CASE("bench cases: fewer tokens are decoded where the context ends") {
  const BenchCases chosen = choose({}, 20);
  CHECK(chosen.cases == std::vector{prefill(20), decode(0, 20)});
  BenchOptions options;
  options.decode_tokens = 21;
  CHECK(refusal(options, 20) == ErrorCode::invalid_argument);
  options.decode_tokens = 0;
  CHECK(refusal(options, 20) == ErrorCode::invalid_argument);
}

TEST_CASE("bench cases: the usual ones that do not fit memory are left out") {
  const BenchCases chosen = choose({}, kAll, 600);
  CHECK(
      chosen.cases ==
      std::vector{prefill(128), prefill(512), decode(0), decode(512)});
  REQUIRE(chosen.notes.size() == 2);
  CHECK(
      chosen.notes[0] ==
      "prefill 2048 is left out: it needs 2.0 MB of memory at least, and the "
      "budget is 600.0 KB (--memory)");
  CHECK(refusal({}, kAll, 10) == ErrorCode::out_of_budget);
}

TEST_CASE("bench cases: what was asked for and cannot be is refused") {
  BenchOptions options;
  options.prefill = {{128, 1025}};
  CHECK(refusal(options, 1024) == ErrorCode::invalid_argument);
  CHECK(refusal(options, kAll, 1000) == ErrorCode::out_of_budget);
  options.prefill = {{0}};
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options = {};
  options.contexts = {{993}};
  CHECK(refusal(options, 1024) == ErrorCode::invalid_argument);
  options.contexts = {{UINT64_MAX}};
  CHECK(refusal(options) == ErrorCode::invalid_argument);
  options.contexts = {{992}};
  CHECK(choose(options, 1024).cases.back() == decode(992));
  CHECK(refusal(options, 1024, 1000) == ErrorCode::out_of_budget);
}
