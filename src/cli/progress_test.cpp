#include "cli/progress.h"

#include <doctest/doctest.h>

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

Stats after_prefill() {
  Stats stats;
  stats.prefill_tokens = 20;
  stats.prefill_seconds = 0.5;
  stats.expert_hits = 1000;
  stats.expert_misses = 1000;
  stats.bytes_read_demand = 50'000'000;
  stats.peak_bytes = 10'000'000;
  stats.budget_bytes = 12'000'000;
  return stats;
}

Stats at_end() {
  Stats stats = after_prefill();
  stats.decode_tokens = 100;
  stats.decode_seconds = 2;
  stats.decode_expert_hits = 300;
  stats.decode_expert_misses = 100;
  stats.decode_bytes_read = 250'000'000;
  return stats;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("progress: the decode line is of decoding alone") {
  const std::string line = decode_line(at_end(), 101);
  CAPTURE(line);
  CHECK(contains(line, "101 tok, 50.0 tok/s"));
  CHECK(contains(line, "hits 75.0 %"));
  CHECK(contains(line, format_bytes(2'500'000) + " read/tok"));
  CHECK(contains(
      line,
      "memory " + format_bytes(10'000'000) + " of " +
          format_bytes(12'000'000)));
  CHECK(contains(summary_line(at_end(), 101), "prompt 20 tokens, 40.0 tok/s"));
}

TEST_CASE("progress: nothing decoded divides by nothing") {
  const std::string line = decode_line(after_prefill(), 1);
  CHECK(contains(line, "1 tok |"));
  CHECK_FALSE(contains(line, "tok/s"));
  CHECK_FALSE(contains(line, "nan"));
  CHECK_FALSE(contains(line, "hits"));
  CHECK(contains(prefill_line({}, 7), "prompt 0 of 7 tokens, 0.0 tok/s"));
}

TEST_CASE("progress: a model is called by its folder") {
  Plan plan;
  for (const char* path : {"models/tiny", "models/tiny/", "./tiny", "tiny"}) {
    CAPTURE(path);
    plan.model = path;
    CHECK(loaded_line(plan).starts_with("tiny: "));
  }
}
