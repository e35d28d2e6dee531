#include "base/error.h"

#include <doctest/doctest.h>

#include <string>

#include "base/log.h"

using namespace mlx_flash;

TEST_CASE("error: fail formats its message and keeps its code") {
  try {
    fail(
        ErrorCode::io,
        "[read] {}: {} of {} bytes; look at the disk",
        "a.safetensors",
        12,
        4096);
    FAIL("fail returned");
  } catch (const std::runtime_error& caught) {
    CHECK(
        std::string(caught.what()) ==
        "[read] a.safetensors: 12 of 4096 bytes; look at the disk");
    const auto* error = dynamic_cast<const Error*>(&caught);
    REQUIRE(error);
    CHECK(error->code() == ErrorCode::io);
  }
}

TEST_CASE("error: braces in an argument are text") {
  // Names and paths come from files.
  CHECK_THROWS_WITH_AS(
      fail(ErrorCode::bad_model, "[model] {}", "{}{0}%s"),
      "[model] {}{0}%s",
      Error);
}

TEST_CASE("log: an unknown level is refused with the list of levels") {
  const auto before = log::logger().level();
  log::set_level("debug");
  CHECK(log::logger().level() == spdlog::level::debug);
  log::set_level("error");
  CHECK(log::logger().level() == spdlog::level::err);
  CHECK_THROWS_WITH_AS(
      log::set_level("loud"),
      "[log] unknown level 'loud'; use error, warn, info or debug",
      Error);
  CHECK(log::logger().level() == spdlog::level::err);
  log::logger().set_level(before);
}
