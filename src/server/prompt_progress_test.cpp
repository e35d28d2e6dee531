#include "server/prompt_progress.h"

#include <doctest/doctest.h>

using namespace mlx_flash;
using namespace mlx_flash::server;

TEST_CASE("prompt progress: tells rate and time left from the second step on") {
  PromptMeter meter;
  PromptProgress told = meter.update({0, 1000, 100, 100}, 50);
  CHECK(told.prompt_tokens == 1000);
  CHECK(told.prompt_read == 100);
  CHECK(told.cached_tokens == 100);
  CHECK(told.tokens_per_second == 0);
  CHECK(told.seconds_left == 0);
  // 300 tokens in 3 seconds; what was cached does not count.
  told = meter.update({0, 1000, 400, 100}, 53);
  CHECK(told.tokens_per_second == doctest::Approx(100));
  CHECK(told.seconds_left == doctest::Approx(6));
}

TEST_CASE("prompt progress: one slow step does not change the rate at once") {
  PromptMeter meter;
  meter.update({0, 10000, 0, 0}, 0);
  meter.update({0, 10000, 1000, 0}, 10);
  const PromptProgress told = meter.update({0, 10000, 1010, 0}, 11);
  CHECK(told.tokens_per_second > 90);
  CHECK(told.tokens_per_second < 100);
}

TEST_CASE("prompt progress: a rate that lasts is the one that is told") {
  PromptMeter meter;
  meter.update({0, 100000, 0, 0}, 0);
  meter.update({0, 100000, 1000, 0}, 1);
  PromptProgress told;
  for (int i = 1; i <= 100; ++i) {
    told = meter.update({0, 100000, 1000u + 10u * i, 0}, 1 + i);
  }
  CHECK(told.tokens_per_second == doctest::Approx(10).epsilon(0.01));
}

TEST_CASE("prompt progress: in the queue there is a position and no rate") {
  PromptMeter meter;
  PromptProgress told = meter.update({3, 1000, 0, 0}, 0);
  CHECK(told.queue_position == 3);
  CHECK(told.tokens_per_second == 0);
  // The time in the queue is none in which anything was read.
  meter.update({0, 1000, 0, 0}, 100);
  told = meter.update({0, 1000, 500, 0}, 101);
  CHECK(told.tokens_per_second == doctest::Approx(500));
  // It can come back there; then it is read anew.
  told = meter.update({1, 1000, 0, 0}, 102);
  CHECK(told.tokens_per_second == 0);
  meter.update({0, 1000, 0, 0}, 200);
  told = meter.update({0, 1000, 100, 0}, 201);
  CHECK(told.tokens_per_second == doctest::Approx(100));
}

TEST_CASE("prompt progress: two reports of one moment are no infinite speed") {
  PromptMeter meter;
  meter.update({0, 10, 0, 0}, 5);
  const PromptProgress told = meter.update({0, 10, 10, 0}, 5);
  CHECK(told.tokens_per_second == 0);
  CHECK(told.prompt_read == 10);
}
