#include "server/api/own_hints.h"

#include <doctest/doctest.h>

using namespace mlx_flash;
using server::find_hints;
using server::Hint;
using server::HintFacts;
using server::ModelStatus;

namespace {

// A model that is ready, of which half fits into memory, with good hits.
struct Fixture {
  Fixture() {
    facts.model.state = ModelStatus::State::ready;
    facts.model.name = "tales";
    facts.stats = &stats;
    facts.plan = &plan;
    facts.parallel = 4;
    stats.budget_bytes = 6'000'000'000;
    stats.decode_expert_hits = 99'500;
    stats.decode_expert_misses = 500;
    stats.decode_seconds = 90;
    stats.prefill_seconds = 10;
    plan.full_budget_bytes = 17'500'000'000;
    plan.context_tokens = plan.model_context = 4096;
  }

  std::string actions() const {
    std::string all;
    for (const Hint& hint : find_hints(facts)) {
      all += (all.empty() ? "" : " ") + hint.priority + ":" + hint.action;
    }
    return all;
  }

  Stats stats;
  Plan plan;
  HintFacts facts;
};

} // namespace

TEST_CASE("hints: a server that does well is left alone") {
  CHECK(Fixture().actions().empty());
}

TEST_CASE("hints: misses ask for memory, the more so if the disk is slow") {
  Fixture server;
  server.stats.decode_expert_misses = 49'500;
  CHECK(server.actions() == "info:raise_memory");
  server.stats.stall_seconds = 40;
  CHECK(server.actions() == "warning:raise_memory");
  CHECK(
      find_hints(server.facts)[0].message ==
      "66.8 % of the experts that answers needed were in memory, and 40 % of "
      "the time went into waiting for the disk; more --memory makes it faster, "
      "up to 17.5GB with which nothing is read");

  server.plan.full_budget_bytes = server.stats.budget_bytes;
  CHECK(server.actions().empty()); // more would not help
}

TEST_CASE("hints: a cache that is being filled is not judged") {
  Fixture server;
  server.stats.decode_expert_hits = 0;
  server.stats.decode_expert_misses = 999;
  CHECK(server.actions().empty());
  server.stats.decode_expert_misses = 1000;
  CHECK(server.actions() == "info:raise_memory");
}

TEST_CASE("hints: who waits while all places are taken asks for more places") {
  Fixture server;
  server.facts.running = 4;
  CHECK(server.actions().empty());
  server.facts.waiting = 2;
  CHECK(server.actions() == "warning:raise_parallel");
  server.facts.running = 3; // they wait for something else
  CHECK(server.actions().empty());
}

TEST_CASE("hints: a context below the model's own is told") {
  Fixture server;
  server.plan.model_context = 32768;
  CHECK(server.actions() == "info:raise_context");
}

TEST_CASE("hints: of no model there are no figures") {
  Fixture server;
  server.facts.stats = nullptr;
  server.facts.plan = nullptr;
  server.facts.model.state = ModelStatus::State::released;
  CHECK(server.actions() == "info:load_model");
  server.facts.model.state = ModelStatus::State::failed;
  server.facts.model.error = "the model 'tales' could not be loaded: [x] y";
  CHECK(server.actions() == "critical:fix_model");
  CHECK(find_hints(server.facts)[0].message == server.facts.model.error);
}
