#include <doctest/doctest.h>

#include "server/api/test_own_routes.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

using Json = nlohmann::ordered_json;

namespace {

// The value of a metric without labels.
double metric(OwnRoutesServer& server, const std::string& name) {
  const std::string text = "\n" + server.ask("GET", "/metrics")->written;
  const size_t at = text.find("\n" + name + " ");
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + name.size() + 2));
}

} // namespace

TEST_CASE("own routes: /health is good as long as there is an answer") {
  OwnRoutesServer server;
  CHECK(server.get("/health") == Json({{"status", "ok"}}));
  server.scripted.fail_loading("the disk is gone");
  server.models.begin();
  REQUIRE(server.loop.run_until([&] { return server.is("failed"); }));
  CHECK(server.ask("GET", "/health")->head.status == 200);
}

TEST_CASE("own routes: /ready says when, and until then how far it is") {
  OwnRoutesServer server;
  CHECK(server.ask("GET", "/ready")->head.status == 503);
  CHECK(server.get("/ready")["state"] == "released");

  server.scripted.hold_loading();
  server.models.begin();
  const auto loading = server.ask("GET", "/ready");
  CHECK(loading->head.status == 503);
  const Json body = Json::parse(loading->written);
  CHECK(body["state"] == "loading");
  CHECK(body["model"] == "scripted");
  CHECK(body["loading_seconds"].is_number());
  CHECK(body["error"]["code"] == "model_loading");
  CHECK(
      body["error"]["message"].get<std::string>().find(
          "scripted is being loaded") == 0);

  server.scripted.release_loading();
  REQUIRE(server.loop.run_until([&] { return server.is("ready"); }));
  CHECK(server.ask("GET", "/ready")->head.status == 200);
  CHECK(server.get("/ready")["model"] == "scripted");
}

TEST_CASE("own routes: /ready says why there is no model") {
  OwnRoutesServer server;
  server.scripted.fail_loading("[disk] is gone");
  server.models.begin();
  REQUIRE(server.loop.run_until([&] { return server.is("failed"); }));
  CHECK(server.ask("GET", "/ready")->head.status == 503);
  const Json body = server.get("/ready");
  CHECK(
      body["error"]["message"] ==
      "the model 'scripted' could not be loaded: [disk] is gone");
  CHECK(body["failure"] == body["error"]["message"]);
  CHECK(server.get("/hints")["hints"][0]["action"] == "fix_model");
}

TEST_CASE("own routes: all that is known is told while a prompt is read") {
  OwnRoutesServer server;
  server.load();
  server.scripted.hold_steps();
  server.post("/hints", {{"prompt", std::string(1000, 'x')}}, 202);
  server.scripted.let_steps(1);
  REQUIRE(server.loop.run_until([&] {
    const Json running = server.get("/status")["running"];
    return running.size() == 1 && running[0]["prompt_read"] == 256;
  }));
  const Json running = server.get("/status")["running"][0];
  CHECK(running["request_id"] == "test-1");
  CHECK(running["state"] == "prompt");
  CHECK(running["prompt_tokens"] == 1000);
  CHECK(running["prompt_fraction"] == doctest::Approx(0.256));

  CHECK(metric(server, "mlx_flash_sessions") == 1);
  CHECK(metric(server, "mlx_flash_queue_depth") == 0);
  for (const char* path :
       {"/health", "/ready", "/v1/config", "/cache/stats", "/hints"}) {
    CAPTURE(path);
    CHECK(server.ask("GET", path)->head.status == 200);
  }
  CHECK(server.scripted.active() == 1); // it is still being read
}

TEST_CASE("own routes: /status is about the server and its model") {
  OwnRoutesServer server;
  const Json before = server.get("/status");
  CHECK(before["state"] == "released");
  CHECK(before["stats"].is_null());
  CHECK(before["memory"].is_null());
  CHECK(before["version"] == "1.2.3");
  CHECK(before["connections"] == 5);

  server.load();
  server.metrics.count_answer({.prompt_tokens = 7, .completion_tokens = 3});
  const Json after = server.get("/status");
  CHECK(after["state"] == "ready");
  CHECK(after["model"] == "scripted");
  CHECK(after["failure"].is_null());
  CHECK(after["queue"]["limit"] == server.options.limits.queue);
  CHECK(after["queue"]["parallel"] == server.options.limits.parallel);
  CHECK(after["totals"]["answers"] == 1);
  CHECK(after["totals"]["prompt_tokens"] == 7);
  CHECK(after["memory"]["accounts"]["dense_weights"] == 1'000'000'000);
  CHECK(after["stats"].contains("decode_tokens_per_second"));
}

TEST_CASE("own routes: /metrics is Prometheus' text") {
  OwnRoutesServer server;
  server.load();
  const auto exchange = server.ask("GET", "/metrics");
  CHECK(
      exchange->head.content_type ==
      "text/plain; version=0.0.4; charset=utf-8");
  CHECK(exchange->written.rfind("# HELP mlx_flash_build_info", 0) == 0);
  CHECK(
      exchange->written.find("mlx_flash_model_info{model=\"scripted\"") !=
      std::string::npos);
  CHECK(metric(server, "mlx_flash_model_loaded") == 1);
  CHECK(metric(server, "mlx_flash_connections") == 5);
}

TEST_CASE("own routes: counters live longer than an engine") {
  OwnRoutesServer server;
  server.load();
  server.post("/hints", {{"prompt", "Once upon a time"}}, 202);
  const char* const name = "mlx_flash_prefill_tokens_total";
  REQUIRE(server.loop.run_until([&] { return metric(server, name) > 0; }));
  REQUIRE(server.loop.run_until(
      [&] { return server.get("/status")["running"].empty(); }));
  const double before = metric(server, name);
  server.post("/release", Json::object(), 202);
  REQUIRE(server.loop.run_until([&] {
    CHECK(metric(server, name) >= before);
    return server.is("released") && server.scripted.engines() == 0;
  }));
  CHECK(metric(server, "mlx_flash_model_loaded") == 0);

  server.post("/v1/models/switch", {{"model", "scripted"}});
  CHECK(metric(server, "mlx_flash_model_loads_total") == 2);
  CHECK(metric(server, name) >= before);
}

TEST_CASE("own routes: looking at a server does not keep its model") {
  OwnRoutesServer server;
  server.load();
  server.ask("GET", "/metrics");
  server.ask("GET", "/cache/stats");
  CHECK(server.get("/status")["users"] == 0);
}

TEST_CASE("own routes: /v1/config tells all limits, no key and no path") {
  OwnRoutesServer server;
  const Json config = server.get("/v1/config");
  CHECK(config["api_key_required"] == true);
  CHECK(config["limits"]["body_bytes"] == server.options.limits.body_bytes);
  CHECK(config["limits"]["queue"] == server.options.limits.queue);
  // Each is 8 bytes: one that is new has to be told too.
  CHECK(config["limits"].size() * 8 == sizeof(ServerLimits));
  CHECK(config["models"].size() == 2);
  CHECK(config["models"][0]["name"] == "scripted");
  CHECK(config["models"][0]["aliases"] == Json::array({"default"}));
  CHECK(config.dump().find("sesame") == std::string::npos);
  CHECK(config.dump().find("models/scripted") == std::string::npos);
}

TEST_CASE("own routes: /cache/stats tells of both caches") {
  OwnRoutesServer server;
  CHECK(server.get("/cache/stats")["expert_cache"].is_null());
  server.load();
  server.metrics.count_answer({.prompt_tokens = 40, .cached_tokens = 30});
  const Json body = server.get("/cache/stats");
  CHECK(body["model"] == "scripted");
  CHECK(body["expert_cache"]["hits"] == 0);
  CHECK(body["prompt_cache"]["cached_tokens"] == 30);
  CHECK(body["prompt_cache"]["hit_ratio"] == 0.75);
}
