#include <doctest/doctest.h>

#include "base/clock.h"
#include "server/api/test_own_routes.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

using Json = nlohmann::ordered_json;

namespace {

class UsageSink : public AnswerSink {
 public:
  void on_part(size_t, AnswerPart) override {}
  void on_choice_end(size_t, const ChoiceEnd&) override {}
  void on_end(const Usage& its_usage, const Timings&) override {
    usage = its_usage;
  }
  void on_error(const ApiError& error) override {
    FAIL(error.what());
  }

  std::optional<Usage> usage;
};

void wait_until_idle(OwnRoutesServer& server) {
  REQUIRE(
      server.loop.run_until([&] { return server.generations.running() == 0; }));
}

} // namespace

TEST_CASE("own routes: a prompt that was announced has been read already") {
  OwnRoutesServer server;
  server.load();
  const std::string prompt(200, 'p');
  const Json body = server.post("/hints", {{"prompt", prompt}}, 202);
  CHECK(body["accepted"] == true);
  CHECK(body["model"] == "scripted");
  CHECK(body["prompt_tokens"] == 200);
  wait_until_idle(server);
  REQUIRE(server.scripted.requests().size() == 1);
  CHECK(server.scripted.requests()[0].prompt == prompt);
  CHECK(server.scripted.requests()[0].options.max_tokens == 1);

  Job job;
  job.prompt = prompt;
  const auto sink = std::make_shared<UsageSink>();
  server.generations.start(job, now_seconds(), sink);
  REQUIRE(server.loop.run_until([&] { return sink->usage.has_value(); }));
  CHECK(sink->usage->cached_tokens > 100);
}

TEST_CASE("own routes: an announcement that was answered keeps nothing") {
  OwnRoutesServer server;
  server.load();
  server.scripted.hold_steps();
  const auto exchange =
      server.ask("POST", "/hints", Json{{"prompt", "Hello"}}.dump());
  REQUIRE(server.loop.run_until([&] { return exchange->ended; }));
  server.loop.run();
  CHECK(server.generations.running() == 1);
  exchange->disconnect = {}; // as what has ended forgets it
  CHECK(exchange.use_count() == 1);
  server.scripted.release_steps();
  wait_until_idle(server);
  CHECK(server.scripted.requests().size() == 1);
}

TEST_CASE("own routes: a conversation is announced as it will be sent") {
  OwnRoutesServer server;
  server.load();
  server.post(
      "/hints",
      {{"messages", {{{"role", "user"}, {"content", "Hi"}}}},
       {"max_tokens", 500},
       {"temperature", 0.5},
       {"stream", true},
       {"n", 4}},
      202);
  wait_until_idle(server);
  REQUIRE(server.scripted.requests().size() == 1); // and not four
  CHECK(
      server.scripted.requests()[0].prompt ==
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(server.scripted.requests()[0].options.max_tokens == 1);
}

TEST_CASE("own routes: what is wrong with an announcement is told") {
  OwnRoutesServer server;
  server.load();
  CHECK(
      server.refusal("/hints", {{"prompt", "a"}, {"messages", {1}}}) ==
      "messages: messages and prompt are two prompts: send one");
  CHECK(
      server.refusal("/hints", {{"prompt", "a"}, {"experts", {1}}}) ==
      "experts: experts is not a field that is known here");
  CHECK(
      server.refusal("/hints", Json::object()) ==
      "messages: messages is missing");
  const Json body =
      server.post("/hints", {{"prompt", std::string(5000, 'x')}}, 400);
  CHECK(body["error"]["code"] == "context_length_exceeded");
}

TEST_CASE(
    "own routes: a model is switched to, and the answer comes when it "
    "is there") {
  OwnRoutesServer server;
  server.load();
  server.scripted.hold_loading();
  const auto exchange =
      server.ask("POST", "/v1/models/switch", R"({"model": "other"})");
  REQUIRE(server.loop.run_until([&] { return server.is("loading"); }));
  server.loop.run();
  CHECK_FALSE(exchange->ended);
  server.scripted.release_loading();
  REQUIRE(server.loop.run_until([&] { return exchange->ended; }));
  CHECK(exchange->head.status == 200);
  const Json body = Json::parse(exchange->written);
  CHECK(body["model"] == "other");
  CHECK(body["state"] == "ready");
}

TEST_CASE("own routes: a model that is not there is not switched to") {
  OwnRoutesServer server;
  server.load();
  CHECK(
      server.refusal("/v1/models/switch", {{"model", "nothing"}})
          .find("model: ") == 0);
  CHECK(
      server.refusal("/v1/models/switch", Json::object()) ==
      "model: model is missing");
  CHECK(
      server.refusal("/v1/models/switch", {{"model", "other"}, {"a", 1}}) ==
      "a: a is not a field that is known here");
  server.scripted.fail_loading("[disk] is gone");
  const Json body = server.post("/v1/models/switch", {{"model", "other"}}, 500);
  CHECK(
      body["error"]["message"] ==
      "the model 'other' could not be loaded: [disk] is gone");
}

TEST_CASE("own routes: a released model goes, and comes when it is asked for") {
  OwnRoutesServer server;
  server.load();
  const auto exchange = server.ask("POST", "/release"); // without a body
  CHECK(exchange->head.status == 202);
  REQUIRE(
      server.loop.run_until([&] { return server.scripted.engines() == 0; }));
  REQUIRE(server.loop.run_until([&] { return server.is("released"); }));
  server.post("/tokenize", {{"content", "a"}});
  CHECK(server.is("ready"));
}

TEST_CASE("own routes: /shutdown answers, and then the server stops") {
  OwnRoutesServer server;
  const auto exchange = server.ask("POST", "/shutdown", "{}");
  CHECK(exchange->head.status == 202);
  CHECK(Json::parse(exchange->written) == Json({{"status", "stopping"}}));
  CHECK(server.shut_downs == 0);
  server.loop.run();
  CHECK(server.shut_downs == 1);
}

TEST_CASE("own routes: what changes a server takes no field that it ignores") {
  OwnRoutesServer server;
  for (const char* path : {"/release", "/shutdown"}) {
    CAPTURE(path);
    CHECK(
        server.refusal(path, {{"force", true}}) ==
        "force: force is not a field that is known here");
  }
  server.loop.run();
  CHECK(server.shut_downs == 0);
}
