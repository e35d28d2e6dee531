#include "server/model_host.h"

#include <doctest/doctest.h>

#include <utility>

#include "server/embedding_inputs.h"
#include "server/server_memory.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

// Who asked for a model, and what came of it.
struct Asked {
  std::shared_ptr<ModelLease> lease;
  std::optional<ApiError> error;
  int answers = 0;
  Task withdraw;

  std::string model() const {
    return lease ? lease->model().name : "";
  }
};

struct Fixture {
  explicit Fixture(double keep_seconds = 0) {
    options.keep_seconds = keep_seconds;
    host.emplace(options, loop);
  }

  std::shared_ptr<Asked> ask(const std::string& name = {}) {
    const auto asked = std::make_shared<Asked>();
    asked->withdraw = host->acquire(
        name,
        [asked](std::shared_ptr<ModelLease> lease) {
          asked->lease = std::move(lease);
          ++asked->answers;
        },
        [asked](const ApiError& error) {
          asked->error = error;
          ++asked->answers;
        });
    return asked;
  }
  std::shared_ptr<Asked> get(const std::string& name = {}) {
    const auto asked = ask(name);
    REQUIRE(loop.run_until([&] { return asked->answers > 0; }));
    return asked;
  }
  bool wait_for(ModelStatus::State state) {
    return loop.run_until([&] { return host->status().state == state; });
  }
  bool wait_for_engines(size_t count) {
    return loop.run_until([&] { return scripted.engines() == count; });
  }

  Scripted scripted;
  ManualLoop loop;
  ServerOptions options = scripted_options(scripted);
  std::optional<ModelHost> host;
};

constexpr auto kReleased = ModelStatus::State::released;
constexpr auto kLoading = ModelStatus::State::loading;
constexpr auto kReady = ModelStatus::State::ready;
constexpr auto kFailed = ModelStatus::State::failed;

} // namespace

TEST_CASE("model host: begin loads the first model, and nobody uses it") {
  Fixture f;
  CHECK(f.host->status().state == kReleased);
  CHECK(f.host->current() == nullptr);
  f.scripted.hold_loading();
  f.host->begin();
  REQUIRE(f.wait_for(kLoading));
  CHECK(f.host->status().name == "scripted");
  CHECK(f.host->current() == nullptr);
  f.scripted.release_loading();
  REQUIRE(f.wait_for(kReady));
  CHECK(f.host->status().users == 0);
  CHECK(f.host->current()->model().name == "scripted");
}

TEST_CASE("model host: one load serves all who wait for it, by name or alias") {
  Fixture f;
  f.scripted.hold_loading();
  const auto first = f.ask("scripted");
  const auto second = f.ask("default");
  const auto third = f.ask();
  CHECK(f.host->status().waiting == 3);
  f.scripted.release_loading();
  REQUIRE(f.loop.run_until([&] { return third->answers == 1; }));
  CHECK(first->model() == "scripted");
  CHECK(second->model() == "scripted");
  CHECK(third->model() == "scripted");
  CHECK(&first->lease->engine() == &third->lease->engine());
  CHECK(f.scripted.opened() == 1);
  CHECK(f.host->status().users == 3);
  CHECK(f.host->status().waiting == 0);
}

TEST_CASE("model host: callbacks come on the loop and not before") {
  Fixture f;
  f.get();
  const auto asked = f.ask();
  CHECK(asked->answers == 0);
  f.loop.run();
  CHECK(asked->answers == 1);
}

TEST_CASE("model host: a name that is not known is an error that names all") {
  Fixture f;
  try {
    f.ask("gpt-9");
    FAIL("nothing was thrown");
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::not_found);
    CHECK(error.code == "model_not_found");
    CHECK(error.param == "model");
    CHECK(
        std::string(error.what()) ==
        "the model 'gpt-9' is not served here; ask for scripted or other");
  }
  CHECK_THROWS_AS((void)f.host->switch_to("gpt-9", [] {}, {}), ApiError);
  CHECK_THROWS_WITH_AS(
      f.ask(std::string(100000, 'x')),
      doctest::Contains("of that name"),
      ApiError);
  CHECK(f.scripted.opened() == 0);
}

TEST_CASE("model host: another model comes when nobody uses the one before") {
  Fixture f;
  const auto first = f.get("scripted");
  const auto second = f.ask("other");
  f.loop.run();
  CHECK(second->answers == 0);
  CHECK(f.scripted.opened() == 1);
  first->lease.reset();
  REQUIRE(f.loop.run_until([&] { return second->answers == 1; }));
  CHECK(second->model() == "other");
  CHECK(f.scripted.engines() == 1); // at no time two, see below
}

TEST_CASE("model host: the engine is gone before the next one is opened") {
  Scripted scripted;
  ManualLoop loop;
  ServerOptions options = scripted_options(scripted);
  size_t most = 0;
  options.open_engine = [&,
                         open = options.open_engine](const EngineOptions& o) {
    most = std::max(most, scripted.engines());
    return open(o);
  };
  ModelHost host(options, loop);
  int ready = 0;
  for (const char* name : {"other", "scripted", "other"}) {
    (void)host.switch_to(name, [&] { ++ready; }, {});
  }
  REQUIRE(loop.run_until([&] { return ready == 3; }));
  CHECK(scripted.opened() == 3);
  CHECK(most == 0);
}

TEST_CASE("model host: who waits for a switch is not passed by others") {
  Fixture f;
  auto first = f.get("scripted");
  const auto second = f.ask("other");
  const auto third = f.ask("scripted"); // though that one is loaded
  f.loop.run();
  CHECK(third->answers == 0);
  first->lease.reset();
  REQUIRE(f.loop.run_until([&] { return second->answers == 1; }));
  f.loop.run();
  CHECK(third->answers == 0);
  second->lease.reset();
  REQUIRE(f.loop.run_until([&] { return third->answers == 1; }));
  CHECK(third->model() == "scripted");
}

TEST_CASE("model host: without a name it is the model that is loaded by then") {
  Fixture f;
  CHECK(f.get()->model() == "scripted"); // the first, where there is none
  CHECK(f.get("other")->model() == "other");
  CHECK(f.get()->model() == "other");
  (void)f.host->switch_to("scripted", [] {}, {});
  CHECK(f.get()->model() == "scripted");
  f.host->release();
  CHECK(f.get()->model() == "scripted");
}

TEST_CASE("model host: a load that fails is told to all who wait for it") {
  Fixture f;
  f.scripted.hold_loading();
  f.scripted.fail_loading("[demo] weights.bin is damaged");
  const auto first = f.ask("scripted");
  const auto second = f.ask();
  bool switched = false;
  std::optional<ApiError> not_switched;
  (void)f.host->switch_to(
      "scripted",
      [&] { switched = true; },
      [&](const ApiError& error) { not_switched = error; });
  f.scripted.release_loading();
  REQUIRE(f.loop.run_until([&] { return not_switched.has_value(); }));
  CHECK(!switched);
  for (const auto& asked : {first, second}) {
    CHECK(asked->answers == 1);
    REQUIRE(asked->error);
    CHECK(asked->error->kind() == ApiErrorKind::internal);
    CHECK(
        std::string(asked->error->what()) ==
        "the model 'scripted' could not be loaded: [demo] weights.bin is "
        "damaged");
  }
  const ModelStatus status = f.host->status();
  CHECK(status.state == kFailed);
  CHECK(status.error == first->error->what());

  // The host lives on, and tries again when it is asked.
  CHECK(f.get()->error);
  f.scripted.fail_loading("");
  CHECK(f.get()->lease);
  CHECK(f.host->status().error.empty());
}

TEST_CASE("model host: one model's failure is nothing to those of another") {
  Fixture f;
  f.options.open_engine = [scripted =
                               f.scripted](const EngineOptions& o) mutable {
    if (o.model == "models/scripted") {
      throw Error(ErrorCode::out_of_budget, "[plan] give 6 GB");
    }
    return scripted.open(o);
  };
  f.host.emplace(f.options, f.loop);
  const auto first = f.ask("scripted");
  const auto second = f.ask("other");
  REQUIRE(f.loop.run_until([&] { return second->answers == 1; }));
  CHECK(second->model() == "other");
  REQUIRE(first->error);
  CHECK(first->error->kind() == ApiErrorKind::unavailable);
}

TEST_CASE("model host: the model goes when it was not used for long enough") {
  Fixture f(60);
  f.get()->lease.reset();
  f.loop.advance(59);
  CHECK(f.host->status().seconds_left.has_value());
  f.get()->lease.reset(); // which begins the time anew
  f.loop.advance(59);
  CHECK(f.host->status().state == kReady);
  f.loop.advance(2);
  REQUIRE(f.wait_for_engines(0));
  REQUIRE(f.wait_for(kReleased));
  CHECK(!f.host->status().seconds_left);
  CHECK(f.get()->lease); // loads it again
  CHECK(f.scripted.opened() == 2);
}

TEST_CASE("model host: the time of a model that was never used counts too") {
  Fixture f(60);
  f.host->begin();
  REQUIRE(f.wait_for(kReady));
  f.loop.advance(61);
  CHECK(f.wait_for_engines(0));
}

TEST_CASE("model host: time does not count while the model is used") {
  Fixture f(60);
  const auto first = f.get();
  f.get()->lease.reset();
  f.loop.advance(1000);
  CHECK(f.host->status().state == kReady);
  CHECK(!f.host->status().seconds_left);
  first->lease.reset();
  f.loop.advance(59);
  CHECK(f.host->status().state == kReady);
  f.loop.advance(2);
  CHECK(f.wait_for_engines(0));
}

TEST_CASE("model host: one timer at a time, however often it is used") {
  Fixture f(60);
  for (int i = 0; i < 20; ++i) {
    f.get()->lease.reset();
    f.loop.run();
  }
  CHECK(f.loop.timers() == 1);
  const auto user = f.get();
  CHECK(f.loop.timers() == 0);
}

TEST_CASE("model host: without a time the model stays") {
  Fixture f;
  f.get()->lease.reset();
  CHECK(f.loop.timers() == 0);
  f.loop.advance(1e6);
  CHECK(f.host->status().state == kReady);
}

TEST_CASE("model host: a use can say how long the model stays after it") {
  Fixture f(60);
  SUBCASE("not at all") {
    auto asked = f.get();
    asked->lease->keep(0);
    asked->lease.reset();
    CHECK(f.wait_for_engines(0));
  }
  SUBCASE("longer") {
    auto asked = f.get();
    asked->lease->keep(600);
    asked->lease.reset();
    f.loop.advance(599);
    CHECK(f.host->status().state == kReady);
    f.loop.advance(2);
    CHECK(f.wait_for_engines(0));
  }
  SUBCASE("until another is asked for") {
    auto asked = f.get();
    asked->lease->keep(-1);
    asked->lease.reset();
    f.loop.advance(1e6);
    CHECK(f.host->status().state == kReady);
    CHECK(f.get("other")->model() == "other");
  }
  SUBCASE("and the next one as configured") {
    auto asked = f.get();
    asked->lease->keep(-1);
    asked->lease.reset();
    f.get()->lease.reset();
    f.loop.advance(61);
    CHECK(f.wait_for_engines(0));
  }
  SUBCASE("while another one goes on") {
    auto other = f.get();
    auto asked = f.get();
    asked->lease->keep(0);
    asked->lease.reset();
    f.loop.run();
    CHECK(f.host->status().state == kReady);
    other->lease.reset();
    f.loop.advance(59);
    CHECK(f.host->status().state == kReady);
  }
}

TEST_CASE("model host: whoever only looks at a model does not make it stay") {
  Fixture f(60);
  f.get()->lease.reset();
  f.loop.advance(59);
  auto looking = f.host->current();
  REQUIRE(looking);
  CHECK(f.host->status().users == 1);
  f.loop.advance(2);
  CHECK(f.host->status().state == kReady); // while it looks
  looking.reset();
  CHECK(f.wait_for_engines(0));
}

TEST_CASE("model host: release lets go when nobody uses the model any more") {
  Fixture f(60);
  const auto first = f.get();
  f.host->release();
  f.loop.run();
  CHECK(f.host->status().state == kReady);
  first->lease.reset();
  CHECK(f.wait_for_engines(0));
  CHECK(f.get()->lease); // loads it again
  CHECK(f.scripted.opened() == 2);
  f.loop.run();
  CHECK(f.host->status().seconds_left.has_value()); // and is kept as ever

  f.host->release(); // while nobody uses it
  CHECK(f.wait_for_engines(0));
  f.host->release(); // of nothing
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("model host: a release stands, whatever uses say of the model") {
  Fixture f(60);
  const auto long_use = f.get();
  long_use->lease->keep(-1);
  const auto other = f.get();
  SUBCASE("while it is used") {
    f.host->release();
  }
  SUBCASE("while it is used, and asked for again") {
    f.host->release();
    f.get()->lease->keep(600);
  }
  other->lease.reset();
  CHECK(f.host->status().state == kReady);
  long_use->lease.reset();
  CHECK(f.wait_for_engines(0));

  auto next = f.get(); // which loads it anew
  next->lease->keep(600);
  next->lease.reset();
  f.loop.advance(599);
  CHECK(f.host->status().state == kReady);
}

TEST_CASE("model host: nobody has to wait because the model is released") {
  Fixture f;
  const auto first = f.get();
  f.host->release();
  const auto second = f.get(); // though the first one is there still
  CHECK(f.scripted.opened() == 1);
  first->lease.reset();
  CHECK(f.host->status().state == kReady);
  second->lease.reset();
  CHECK(f.wait_for_engines(0));
}

TEST_CASE("model host: what is released while it is loaded goes at once") {
  Fixture f;
  f.scripted.hold_loading();
  f.host->begin();
  REQUIRE(f.wait_for(kLoading));
  f.host->release();
  f.scripted.release_loading();
  REQUIRE(f.loop.run_until([&] { return f.scripted.opened() == 1; }));
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("model host: nothing is loaded for somebody who is gone") {
  Fixture f;
  auto first = f.get("scripted");
  const auto gone = f.ask("other");
  const auto second = f.ask("scripted"); // behind it
  f.loop.run();
  CHECK(second->answers == 0);
  gone->withdraw();
  f.loop.run();
  CHECK(second->answers == 1);
  gone->withdraw(); // again, of nothing
  first->lease.reset();
  second->lease.reset();
  f.loop.run();
  CHECK(gone->answers == 0);
  CHECK(f.scripted.opened() == 1);
  CHECK(f.host->status().name == "scripted");
  CHECK(gone.use_count() == 1); // nothing is kept of the wish
}

TEST_CASE("model host: no more wait for a model than may wait for answers") {
  Fixture f;
  f.options.limits.parallel = 1;
  f.options.limits.queue = 2;
  f.host.emplace(f.options, f.loop);
  const auto user = f.get("scripted");
  std::vector<std::shared_ptr<Asked>> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(f.ask("other"));
  }
  const auto refused = f.get("other");
  REQUIRE(refused->error);
  CHECK(refused->error->kind() == ApiErrorKind::unavailable);
  CHECK(f.host->status().waiting == 3);
  CHECK(f.host->current() != nullptr);

  waiting[1]->withdraw();
  const auto instead = f.ask("other");
  user->lease.reset();
  REQUIRE(f.loop.run_until([&] { return instead->answers == 1; }));
  CHECK(instead->lease);
}

TEST_CASE("model host: a closed one refuses, and fails those who wait") {
  Fixture f;
  const auto user = f.get("scripted");
  const auto waiting = f.ask("other");
  f.host->close();
  const auto late = f.ask("scripted");
  f.loop.run();
  for (const auto& asked : {waiting, late}) {
    CHECK(asked->answers == 1);
    REQUIRE(asked->error);
    CHECK(asked->error->kind() == ApiErrorKind::unavailable);
  }
  CHECK(f.host->current() == nullptr);
  CHECK(user->lease->engine().vocab_size() == kScriptedVocab);
}

TEST_CASE(
    "model host: its end waits for a load, and takes the engine with it") {
  Fixture f;
  f.scripted.hold_loading();
  const auto asked = f.ask();
  REQUIRE(f.wait_for(kLoading));
  f.host->close(); // so that it is told of an error
  std::thread releases([&] { f.scripted.release_loading(); });
  f.host.reset();
  releases.join();
  f.loop.run();
  CHECK(asked->answers == 1);
  CHECK(asked->error);
  CHECK(f.scripted.engines() == 0);
}

TEST_CASE("model host: a use may outlive it") {
  Fixture f;
  const auto asked = f.get();
  f.host.reset();
  CHECK(f.scripted.engines() == 1);
  CHECK(asked->lease->engine().vocab_size() == kScriptedVocab);
  asked->lease.reset();
  CHECK(f.scripted.engines() == 0);
}

TEST_CASE("model host: many threads, two models, everybody is served") {
  Fixture f(60);
  f.options.limits.queue = 100;
  f.host.emplace(f.options, f.loop);
  std::atomic<int> served = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        (void)f.host->acquire(
            (i + t) % 5 == 0 ? "other" : "scripted",
            [&](const auto& lease) {
              served += lease->engine().vocab_size() == kScriptedVocab;
            },
            [](const ApiError&) {});
        f.host->status();
      }
    });
  }
  REQUIRE(f.loop.run_until([&] { return served == 100; }));
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(f.host->status().users == 0);
}

TEST_CASE("model host: engines keep to the server's limits") {
  Fixture f;
  f.options.limits.grammar_cost = 1234;
  f.options.limits.replayed_bytes = 999;
  f.options.models[0].embedding = scripted_form();
  std::optional<EngineOptions> opened;
  f.options.open_engine = [&](const EngineOptions& options) {
    opened = options;
    return f.scripted.open(options);
  };
  f.host.emplace(f.options, f.loop);
  f.get();
  CHECK(opened->grammar_cost == 1234);
  CHECK(
      opened->caller_bytes ==
      server_bytes(f.options.limits) +
          embeddings_bytes(f.options.limits, scripted_form()));
}

TEST_CASE("model host: engines have room for all answers that may wait") {
  Fixture f;
  f.options.limits.parallel = 3;
  f.options.limits.queue = 100;
  std::optional<EngineOptions> opened;
  f.options.open_engine = [&](const EngineOptions& options) {
    opened = options;
    return f.scripted.open(options);
  };
  f.host.emplace(f.options, f.loop);
  f.get();
  CHECK(opened->parallel == 3);
  CHECK(opened->max_sessions >= 103);
}

TEST_CASE("model host: engines can score a prompt as long as the context") {
  for (const uint64_t context : {0, 30000}) {
    Fixture f;
    f.options.models[0].engine.context_tokens = context;
    std::optional<EngineOptions> opened;
    f.options.open_engine = [&](const EngineOptions& options) {
      opened = options;
      return f.scripted.open(options);
    };
    f.host.emplace(f.options, f.loop);
    f.get();
    const uint64_t length = context > 0 ? context : 4096;
    CHECK(opened->result_bytes >= length * 5 * sizeof(TokenLogprob));
  }
}

TEST_CASE("model host: a server without models does not start") {
  ManualLoop loop;
  CHECK_THROWS_AS(ModelHost(ServerOptions{}, loop), Error);
}
