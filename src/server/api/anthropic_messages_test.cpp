// The routes, with a scripted engine behind them.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/routes.h"
#include "server/api/test_anthropic.h"
#include "server/api/test_exchange.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::anthropic_test;

namespace {

constexpr const char* kMessages = "/v1/messages";
constexpr const char* kCount = "/v1/messages/count_tokens";

struct Served {
  explicit Served(const std::string& answer = "Hello!")
      : scripted(ScriptedSetup{[answer](const ScriptedRequest&) {
          return ScriptedAnswer(answer);
        }}) {
    options.slow_seconds = 0; // requests of tests came at no time
  }

  // What a handler throws is the router's to send.
  std::shared_ptr<TestExchange> post(
      const std::string& path,
      const std::string& fields) {
    const auto exchange =
        std::make_shared<TestExchange>(anthropic_body(fields).dump());
    for (const Route& route : anthropic_routes()) {
      if (route.path == path) {
        CHECK(route.method == "POST");
        CHECK(route.slow);
        CHECK(route.dialect == Dialect::anthropic);
        route.handle(context, exchange, "");
      }
    }
    return exchange;
  }
  std::shared_ptr<TestExchange> ask(
      const std::string& path,
      const std::string& fields) {
    const auto exchange = post(path, fields);
    CHECK(loop.run_until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    return exchange;
  }
  TestJson answer(const std::string& path, const std::string& fields) {
    return TestJson::parse(ask(path, fields)->written);
  }

  Scripted scripted;
  ManualLoop loop;
  LoopWorkers workers{loop};
  ServerOptions options = scripted_options(scripted);
  Metrics metrics;
  ModelHost models{options, loop};
  Generations generations{options, loop, workers, models, metrics};
  ApiContext context{options, loop, workers, models, generations, metrics, [] {
                     }};
};

const char* kTools = R"("tools": [{"name": "get_weather", "input_schema":
    {"type": "object", "properties": {"city": {"type": "string"}}}}])";
const char* kCallText =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": "
    "{\"city\": \"Oslo\"}}\n</tool_call>";

std::string with_tools(const std::string& more) {
  return "{\"model\": \"scripted\", " + std::string(kTools) + more + "}";
}

} // namespace

TEST_CASE("anthropic messages: an answer in one piece") {
  Served served;
  const TestJson message =
      served.answer(kMessages, R"({"model": "default", "system": "Be kind."})");
  CHECK(message.at("type") == "message");
  CHECK(message.at("model") == "scripted");
  CHECK(message.at("content") == TestJson::parse(R"([
      {"type": "text", "text": "Hello!"}])"));
  CHECK(message.at("stop_reason") == "end_turn");
  const ScriptedRequest request = served.scripted.requests().at(0);
  CHECK(
      request.prompt ==
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      "<|im_start|>assistant\n<think>\n\n</think>\n\n");
  CHECK(message.at("usage").at("input_tokens") == request.tokens.size());
  CHECK(request.options.max_tokens == 100);
}

TEST_CASE("anthropic messages: a stream tells the same as the whole") {
  Served served("<think>\nHm.\n</think>\n\nHello!");
  const auto exchange = served.ask(
      kMessages,
      R"({"model": "scripted", "stream": true,
          "thinking": {"type": "adaptive"}})");
  std::string thinking;
  std::string text;
  std::vector<std::string> types;
  for (const TestEvent& event : read_events(exchange->written)) {
    const TestJson data = TestJson::parse(event.data);
    types.push_back(event.name);
    const TestJson delta = data.value("delta", TestJson::object());
    thinking += delta.value("thinking", "");
    text += delta.value("text", "");
  }
  CHECK(thinking == "Hm.");
  CHECK(text == "Hello!");
  REQUIRE(types.size() > 4);
  CHECK(types[0] == "message_start");
  CHECK(types[1] == "ping");
  CHECK(types[types.size() - 2] == "message_delta");
  CHECK(types.back() == "message_stop");
}

TEST_CASE("anthropic messages: a call comes back as it was made") {
  const std::string made =
      std::string("<think>\nHm.\n</think>\n\n") + kCallText;
  for (const char* display : {"summarized", "omitted"}) {
    CAPTURE(display);
    Served served(made);
    const std::string thinking =
        std::string(R"(, "thinking": {"type": "adaptive", "display": ")") +
        display + "\"}";
    const TestJson first = served.answer(kMessages, with_tools(thinking));
    CHECK(first.at("stop_reason") == "tool_use");
    REQUIRE(first.at("content").size() == 2);
    const TestJson& call = first.at("content")[1];
    CHECK(call.at("name") == "get_weather");
    CHECK(call.at("input") == TestJson::parse(R"({"city": "Oslo"})"));
    const std::string id = call.at("id");
    CHECK(id.rfind("toolu_", 0) == 0);
    CHECK(id.size() == 30);

    TestJson result = TestJson::parse(R"([{"type": "tool_result"}])");
    result[0]["tool_use_id"] = id;
    TestJson messages = anthropic_body().at("messages");
    messages.push_back(
        {{"role", "assistant"}, {"content", first.at("content")}});
    messages.push_back({{"role", "user"}, {"content", result}});
    served.answer(
        kMessages, with_tools(thinking + ", \"messages\": " + messages.dump()));
    const auto requests = served.scripted.requests();
    REQUIRE(requests.size() == 2);
    CHECK(requests[1].prompt.rfind(requests[0].prompt + made, 0) == 0);
  }
}

TEST_CASE("anthropic messages: a stop sequence is named") {
  Served served("one two three");
  const TestJson message = served.answer(
      kMessages, R"({"model": "scripted", "stop_sequences": ["two"]})");
  CHECK(message.at("content")[0].at("text") == "one ");
  CHECK(message.at("stop_reason") == "stop_sequence");
  CHECK(message.at("stop_sequence") == "two");
}

TEST_CASE("anthropic messages: a prompt beyond the context is too long") {
  Served served;
  TestJson fields{{"model", "scripted"}, {"stream", true}};
  fields["system"] = std::string(5000, 'x');
  const auto exchange = served.ask(kMessages, fields.dump());
  CHECK(exchange->head.status == 400);
  const TestJson error = TestJson::parse(exchange->written).at("error");
  CHECK(error.at("type") == "invalid_request_error");
  CHECK(
      error.at("message").get<std::string>().rfind("prompt is too long: ", 0) ==
      0);
}

TEST_CASE("anthropic messages: an unknown model is not found") {
  Served served;
  const auto exchange =
      served.ask(kMessages, R"({"model": "none", "stream": true})");
  CHECK(exchange->head.status == 404);
  CHECK(
      TestJson::parse(exchange->written).at("error").at("type") ==
      "not_found_error");
}

TEST_CASE("anthropic messages: a stream begins while the model is loaded") {
  Served served;
  served.options.keep_alive_seconds = 0.001;
  served.scripted.hold_loading();
  const auto exchange =
      served.post(kMessages, R"({"model": "scripted", "stream": true})");
  CHECK(served.loop.run_until([&] {
    served.loop.advance(0.001);
    return exchange->begun;
  }));
  CHECK(!exchange->ended);
  served.scripted.release_loading();
  CHECK(served.loop.run_until([&] { return exchange->ended; }));
  CHECK(read_events(exchange->written).back().name == "message_stop");
}

TEST_CASE("anthropic messages: who goes away ends the work") {
  Served served;
  served.scripted.hold_steps();
  const auto exchange =
      served.post(kMessages, R"({"model": "scripted", "stream": true})");
  REQUIRE(served.loop.run_until([&] { return exchange->begun; }));
  REQUIRE(served.loop.run_until([&] { return served.scripted.active() == 1; }));
  REQUIRE(exchange->disconnect);
  exchange->disconnect();
  CHECK(served.loop.run_until([&] { return served.scripted.active() == 0; }));
  CHECK(!exchange->ended);
}

TEST_CASE("anthropic messages: a body that is wrong is an error of its own") {
  Served served;
  CHECK_THROWS_AS(served.post(kMessages, R"({"top_k": -1})"), ApiError);
  CHECK_THROWS_AS(served.post(kCount, R"({"messages": []})"), ApiError);
  const auto exchange = std::make_shared<TestExchange>("{\"model\"");
  CHECK_THROWS_AS(
      anthropic_routes()[0].handle(served.context, exchange, ""), ApiError);
}

TEST_CASE("anthropic messages: tokens are counted without an answer") {
  Served served;
  const std::string fields = with_tools(R"(, "system": "Be kind.")");
  const TestJson count = served.answer(kCount, fields);
  CHECK(served.scripted.requests().empty());
  const TestJson message = served.answer(kMessages, fields);
  CHECK(count.at("input_tokens") == message.at("usage").at("input_tokens"));
  CHECK(count.at("input_tokens") > 0);
}

TEST_CASE("anthropic messages: the count is that of tokens sampled before") {
  // Which are more than those of the call as the template writes it.
  const std::string made =
      "<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\":   \"get_weather\", "
      "\"arguments\":   {\"city\":   \"Oslo\"}}\n</tool_call>";
  Served served(made);
  const std::string thinking = R"(, "thinking": {"type": "adaptive"})";
  const TestJson blocks =
      served.answer(kMessages, with_tools(thinking)).at("content");
  TestJson result = TestJson::parse(R"([{"type": "tool_result"}])");
  result[0]["tool_use_id"] = blocks.at(1).at("id");
  TestJson messages = anthropic_body().at("messages");
  messages.push_back({{"role", "assistant"}, {"content", blocks}});
  messages.push_back({{"role", "user"}, {"content", result}});
  const std::string fields =
      with_tools(thinking + ", \"messages\": " + messages.dump());
  const TestJson count = served.answer(kCount, fields);
  served.answer(kMessages, fields);
  const ScriptedRequest read = served.scripted.requests().at(1);
  CHECK(read.prompt.find(made) != std::string::npos);
  CHECK(count.at("input_tokens") == read.tokens.size());
}

TEST_CASE("anthropic messages: what cannot be counted is an error") {
  Served served;
  CHECK_THROWS_AS(served.post(kCount, R"({"model": "none"})"), ApiError);
  served.answer(kCount, R"({"model": "scripted"})"); // loads it
  served.workers.refuse = true;
  const auto full = served.ask(kCount, R"({"model": "scripted"})");
  CHECK(full->head.status == 429);
  CHECK(full->header("retry-after") == "1");
}
