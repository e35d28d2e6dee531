#include "cli/sampling_flags.h"

#include <doctest/doctest.h>

#include "mlx_flash/error.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;

namespace {

const SamplingOptions kModel{
    .temperature = 0.75f,
    .top_k = 40,
    .top_p = 0.5f,
    .min_p = 0.25f,
    .repetition_penalty = 1.5f,
    .seed = 9};

SamplingFlags parsed(std::vector<std::string> arguments) {
  SamplingFlags sampling;
  Flags flags("mlx-flash run", "");
  sampling.declare(flags);
  flags.parse(std::move(arguments));
  return sampling;
}

GenerationOptions options(
    std::vector<std::string> arguments,
    uint64_t model_limit = 0) {
  SamplingFlags sampling = parsed(std::move(arguments));
  sampling.check();
  return sampling.options(kModel, model_limit);
}

} // namespace

TEST_CASE("sampling flags: without any the model decides") {
  const SamplingOptions sampling = options({}).sampling;
  CHECK(sampling.temperature == 0.75f);
  CHECK(sampling.top_k == 40);
  CHECK(sampling.top_p == 0.5f);
  CHECK(sampling.min_p == 0.25f);
  CHECK(sampling.repetition_penalty == 1.5f);
}

TEST_CASE("sampling flags: a flag replaces one default and no other") {
  const SamplingOptions sampling =
      options({"--temp", "0.25", "--top-k", "0", "--min-p", "0"}).sampling;
  CHECK(sampling.temperature == 0.25f);
  CHECK(sampling.top_k == 0);
  CHECK(sampling.top_p == 0.5f);
  CHECK(sampling.min_p == 0);
  CHECK(sampling.repetition_penalty == 1.5f);
}

TEST_CASE("sampling flags: temperature 0 is plain greedy") {
  for (const char* zero : {"0", "0.0", "-0"}) {
    const SamplingOptions sampling =
        options({"--temp", zero, "--repeat-penalty", "1.25"}).sampling;
    CHECK(sampling.temperature == 0);
    CHECK(sampling.top_k == 0);
    CHECK(sampling.top_p == 1);
    CHECK(sampling.min_p == 0);
    CHECK(sampling.repetition_penalty == 1.25f);
  }
}

TEST_CASE("sampling flags: a filter asks for a choice") {
  SamplingFlags sampling = parsed({"--top-p", "0.5"});
  sampling.check();
  CHECK(sampling.options(SamplingOptions{}, 0).sampling.temperature == 1);
  CHECK(sampling.options(kModel, 0).sampling.temperature == 0.75f);
  for (const char* filter : {"--top-k", "--min-p"}) {
    CAPTURE(filter);
    CHECK_THROWS_AS(options({"--temp", "0", filter, "1"}), Error);
  }
  sampling = parsed({"--top-k", "0", "--top-p", "1", "--min-p", "0"});
  sampling.check();
  CHECK(sampling.options(SamplingOptions{}, 0).sampling.temperature == 0);
}

TEST_CASE("sampling flags: a seed is what is given, else a new one") {
  CHECK(
      options({"--seed", "18446744073709551615"}).sampling.seed == UINT64_MAX);
  CHECK(options({"--seed", "0"}).sampling.seed == 0);
  const uint64_t first = options({}).sampling.seed;
  const uint64_t second = options({}).sampling.seed;
  CHECK(first != second);
  CHECK(first < (1ull << 53));
}

TEST_CASE(
    "sampling flags: the token limit is the lower of ours and the model's") {
  CHECK(options({}).max_tokens == 256);
  CHECK(options({}, 100).max_tokens == 100);
  CHECK(options({}, 4000).max_tokens == 256);
  CHECK(options({"--max-tokens", "1000"}, 100).max_tokens == 1000);
  CHECK(parsed({}).max_tokens() == 256);
}

TEST_CASE("sampling flags: stops and the end of text are passed on") {
  const auto generation = options(
      {"--stop",
       "\n\n",
       "--stop",
       "END",
       "--stop-id",
       "7",
       "--stop-id",
       "0",
       "--ignore-eos"});
  CHECK(generation.stop_tokens == std::vector<TokenId>{7, 0});
  CHECK(generation.stop_strings == std::vector<std::string>{"\n\n", "END"});
  CHECK(generation.ignore_eos);
  CHECK_FALSE(options({}).ignore_eos);
}

TEST_CASE("sampling flags: values out of range are refused") {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{
           {"--temp", "-1"},
           {"--top-p", "1.5"},
           {"--min-p", "-0.1"},
           {"--repeat-penalty", "0"},
           {"--stop", ""},
           {"--stop-id", "-1"},
           {"--json-schema", "/dev/null"},
           {"--json-schema", "/nonexistent.json"}}) {
    CAPTURE(arguments[0]);
    CHECK_THROWS_AS(options(arguments), Error);
  }
}
