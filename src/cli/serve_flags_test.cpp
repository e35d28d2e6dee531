#include "cli/serve_flags.h"

#include <doctest/doctest.h>

#include "mlx_flash/error.h"
#include "server/server_memory.h"

using namespace mlx_flash;
using namespace mlx_flash::cli;
using server::scaled_limits;
using server::ServerLimits;

namespace {

ServerLimits limits_of(
    std::vector<std::string> arguments,
    const ServerLimits& usual = {}) {
  Flags flags("mlx-flash serve", "");
  ServeFlags serve;
  serve.declare(flags);
  flags.parse(std::move(arguments));
  serve.options();
  return serve.limits(usual);
}

std::string wrong(const std::vector<std::string>& arguments) {
  try {
    limits_of(arguments);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

} // namespace

TEST_CASE("serve flags: limits are what was usual unless a flag sets them") {
  ServerLimits usual;
  usual.queue = 5;
  const ServerLimits limits = limits_of(
      {"--max-grammar-cost",
       "2000",
       "--max-replayed-bytes=0",
       "--max-json-values",
       "99",
       "--drain-timeout",
       "2.5"},
      usual);
  CHECK(limits.grammar_cost == 2000);
  CHECK(limits.replayed_bytes == 0);
  CHECK(limits.json_values == 99);
  CHECK(limits.drain_seconds == 2.5);
  CHECK(limits.queue == 5);
  CHECK(limits.parallel == ServerLimits{}.parallel);
}

TEST_CASE("serve flags: what a flag says holds in a small budget, too") {
  const ServerLimits small = scaled_limits({}, 24'000'000);
  CHECK(small.stored_response_bytes < 9'000'000);
  const ServerLimits limits =
      limits_of({"--max-stored-bytes", "9000000"}, small);
  CHECK(limits.stored_response_bytes == 9'000'000);
  CHECK(limits.body_bytes == small.body_bytes);
}

TEST_CASE(
    "serve flags: a time of 0 has a meaning that is said, or is refused") {
  for (const char* flag :
       {"--request-timeout",
        "--drain-timeout",
        "--keep-minutes",
        "--keep-alive-seconds",
        "--slow-seconds"}) {
    CAPTURE(flag);
    CHECK(wrong({flag, "0"}) == "");
  }
  for (const char* flag :
       {"--header-timeout",
        "--body-timeout",
        "--idle-timeout",
        "--write-timeout",
        "--keep-alive-seconds"}) {
    CAPTURE(flag);
    CHECK(wrong({flag, "0.1"}) == "");
    for (const char* value : {"0.05", "nan", "1e9"}) {
      CHECK(wrong({flag, value}).find(flag) != std::string::npos);
    }
    const bool sign_of_life = flag == std::string("--keep-alive-seconds");
    CHECK(wrong({flag, "0"}).empty() == sign_of_life);
  }
}

TEST_CASE("serve flags: limits have limits") {
  CHECK(wrong({"--max-grammar-cost", "1000"}) == "");
  CHECK(wrong({"--max-grammar-cost", "4294967296"}) == "");
  for (const char* value : {"999", "4294967297", "-1", "lots"}) {
    CAPTURE(value);
    CHECK(
        wrong({"--max-grammar-cost", value}).find("--max-grammar-cost") !=
        std::string::npos);
  }
  CHECK(
      wrong({"--drain-timeout", "-1"}).find("--drain-timeout") !=
      std::string::npos);
}
