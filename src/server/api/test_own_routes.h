// For tests of own_routes(): a server without a network, with a scripted
// engine.
//
// Thread rule: one thread, which runs the loop.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "server/api/routes.h"
#include "server/api/test_exchange.h"
#include "server/counted_engine.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

namespace mlx_flash::server {

class OwnRoutesServer {
 public:
  using Json = nlohmann::ordered_json;

  explicit OwnRoutesServer(ScriptedSetup setup = {})
      : scripted(std::move(setup)) {}
  ~OwnRoutesServer() {
    scripted.release_loading();
    scripted.release_steps();
    generations.cancel_all();
    models.close();
    loop.run();
  }

  // Until the first model is there.
  void load() {
    models.begin();
    REQUIRE(loop.run_until([&] { return is("ready"); }));
  }
  bool is(const std::string& state) {
    return Json::parse(ask("GET", "/status")->written).at("state") == state;
  }

  // What the handler throws is thrown.
  std::shared_ptr<TestExchange> ask(
      const std::string& method,
      const std::string& path,
      const std::string& body = {}) {
    auto exchange = std::make_shared<TestExchange>(body);
    for (const Route& route : own_routes()) {
      if (route.method == method && route.path == path) {
        route.handle(context, exchange, "");
        return exchange;
      }
    }
    throw std::runtime_error("there is no such route");
  }

  // The body of an answer that is there at once: nothing was waited for, and
  // not even the loop ran.
  Json get(const std::string& path) {
    const auto exchange = ask("GET", path);
    REQUIRE(exchange->ended);
    return Json::parse(exchange->written);
  }

  // The body of an answer that has to be waited for.
  Json post(const std::string& path, const Json& body, int status = 200) {
    const auto exchange = ask("POST", path, body.dump());
    REQUIRE(loop.run_until([&] { return exchange->ended; }));
    CHECK(exchange->head.status == status);
    CHECK(exchange->protocol_errors == 0);
    return Json::parse(exchange->written);
  }

  // What the handler throws, as "field: message".
  std::string refusal(const std::string& path, const Json& body) {
    try {
      ask("POST", path, body.dump());
    } catch (const ApiError& error) {
      return error.param + ": " + error.what();
    }
    return "accepted";
  }

  Scripted scripted;
  ManualLoop loop;
  LoopWorkers workers{loop};
  Metrics metrics{"1.2.3"};
  ServerOptions options = counted_options();
  ModelHost models{options, loop};
  Generations generations{options, loop, workers, models, metrics};
  int shut_downs = 0;
  ApiContext context{
      options,
      loop,
      workers,
      models,
      generations,
      metrics,
      [this] { ++shut_downs; },
      [] { return uint64_t{5}; }};

 private:
  ServerOptions counted_options() {
    ServerOptions result = scripted_options(scripted);
    result.api_key = "sesame";
    result.slow_seconds = 0; // a request of a test was received at 0
    result.open_engine = [open = result.open_engine,
                          this](const EngineOptions& engine) {
      return count_engine(open(engine), metrics);
    };
    return result;
  }
};

} // namespace mlx_flash::server
