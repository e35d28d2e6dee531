// The routes of /v1/responses, with all that is behind them but an engine.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api/routes.h"
#include "server/api/test_exchange.h"
#include "server/api_error.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kCall =
    "<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n"
    "{\"name\": \"add\", \"arguments\": {\"a\": 2}}\n</tool_call>";

class Responses : public GenerationsFixture {
 public:
  using GenerationsFixture::GenerationsFixture;

  // Calls the route; what it throws is its error.
  std::shared_ptr<TestExchange> begin(
      const std::string& method,
      const std::string& path,
      const std::string& body = {},
      const std::string& argument = {}) {
    const auto exchange = std::make_shared<TestExchange>(body);
    for (const Route& route : routes_) {
      if (route.method == method && route.path == path) {
        try {
          route.handle(context_, exchange, argument);
        } catch (const ApiError& error) {
          exchange->send(error_response(route.dialect, error));
        }
        return exchange;
      }
    }
    FAIL("there is no route " << method << " " << path);
    return exchange;
  }

  // To the end.
  std::shared_ptr<TestExchange> post(const Json& body) {
    const auto exchange = begin("POST", "/v1/responses", body.dump());
    REQUIRE(until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    return exchange;
  }

  Json create(const Json& body) {
    const auto exchange = post(body);
    REQUIRE_MESSAGE(exchange->head.status == 200, exchange->written);
    return Json::parse(exchange->written);
  }

  std::string last_prompt() const {
    return scripted.requests().back().prompt;
  }

 private:
  ApiContext
      context_{options, loop, workers, *models, *generations, metrics, [] {}};
  const std::vector<Route> routes_ = openai_responses_routes();
};

Json tools() {
  return Json::parse(
      R"([{"type": "function", "name": "add", "parameters":
           {"type": "object", "properties": {"a": {"type": "integer"}}}}])");
}

} // namespace

TEST_CASE("responses: an answer is created, read and deleted") {
  Responses server("Hello!");
  const Json response = server.create({{"input", "Hi"}});
  CHECK(response["status"] == "completed");
  CHECK(response["model"] == "scripted");
  CHECK(response["output"][0]["content"][0]["text"] == "Hello!");
  CHECK(response["usage"]["output_tokens"].get<int>() >= 6);

  const std::string id = response["id"];
  const char* one = "/v1/responses/{id}";
  CHECK(Json::parse(server.begin("GET", one, "", id)->written) == response);
  const auto items =
      server.begin("GET", "/v1/responses/{id}/input_items", "", id);
  CHECK(Json::parse(items->written)["data"].size() == 1);
  CHECK(
      server.begin("POST", "/v1/responses/{id}/cancel", "", id)->head.status ==
      400);
  CHECK(server.begin("DELETE", one, "", id)->head.status == 200);
  CHECK(server.begin("GET", one, "", id)->head.status == 404);
  CHECK(server.is_idle());
}

TEST_CASE("responses: what is wrong with a body is said at once") {
  Responses server("Hello!");
  const auto exchange = server.begin(
      "POST", "/v1/responses", R"({"input": "Hi", "background": true})");
  CHECK(exchange->head.status == 400);
  CHECK(Json::parse(exchange->written)["error"]["param"] == "background");
  CHECK(server.begin("POST", "/v1/responses", "{")->head.status == 400);
}

TEST_CASE("responses: reasoning, text and calls are told apart") {
  Responses server(kCall);
  const Json output =
      server.create({{"input", "2+2?"}, {"tools", tools()}})["output"];
  REQUIRE(output.size() == 3);
  CHECK(output[0]["content"][0]["text"] == "Hm.");
  CHECK(output[1]["content"][0]["text"] == "Let me see.");
  CHECK(output[2]["name"] == "add");
  CHECK(Json::parse(output[2]["arguments"].get<std::string>())["a"] == 2);
  CHECK(output[2]["call_id"].get<std::string>().size() > 5);
}

TEST_CASE(
    "responses: the prompt is the same by id, by reference, and in full") {
  Responses server(kCall);
  const Json question{{"role", "user"}, {"content", "2+2?"}};
  const Json first = server.create(
      {{"input", Json::array({question})},
       {"instructions", "Be brief."},
       {"tools", tools()}});
  const Json result{
      {"type", "function_call_output"},
      {"call_id", first["output"][2]["call_id"]},
      {"output", "4"}};
  Json request{{"instructions", "Be brief."}, {"tools", tools()}};

  request["previous_response_id"] = first["id"];
  request["input"] = Json::array({result});
  server.create(request);
  const std::string by_id = server.last_prompt();
  CHECK(by_id.find("2+2?") != std::string::npos);
  CHECK(by_id.find("Let me see.") != std::string::npos);

  request.erase("previous_response_id");
  request["input"] = Json::array({question});
  for (const Json& item : first["output"]) {
    request["input"].push_back(
        {{"type", "item_reference"}, {"id", item["id"]}});
  }
  request["input"].push_back(result);
  server.create(request);
  CHECK(server.last_prompt() == by_id);

  request["store"] = false;
  request["input"] = Json::array({question});
  for (Json item : first["output"]) {
    // As clients send it that keep nothing but what is sealed.
    item.erase("id");
    if (item["type"] == "reasoning") {
      item.erase("content");
    }
    request["input"].push_back(item);
  }
  request["input"].push_back(result);
  server.create(request);
  CHECK(server.last_prompt() == by_id);
}

TEST_CASE("responses: a stream is numbered and ends with the response") {
  Responses server(kCall);
  const auto exchange =
      server.post({{"input", "2+2?"}, {"tools", tools()}, {"stream", true}});
  CHECK(exchange->head.content_type == "text/event-stream");
  const auto events = read_events(exchange->written);
  REQUIRE(events.size() > 10);
  for (size_t i = 0; i < events.size(); ++i) {
    CHECK(Json::parse(events[i].data)["sequence_number"] == i);
  }
  CHECK(events.front().name == "response.created");
  CHECK(events.back().name == "response.completed");
  const Json response = Json::parse(events.back().data)["response"];
  const auto kept =
      server.begin("GET", "/v1/responses/{id}", "", response["id"]);
  CHECK(Json::parse(kept->written) == response);
}

TEST_CASE("responses: an answer may be cut by its length") {
  Responses server("A long answer.");
  const Json response =
      server.create({{"input", "Hi"}, {"max_output_tokens", 4}});
  CHECK(response["status"] == "incomplete");
  CHECK(response["incomplete_details"]["reason"] == "max_output_tokens");
  CHECK(response["usage"]["output_tokens"] == 4);
}

TEST_CASE("responses: an engine's failure ends a stream by its event") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest&) {
    ScriptedAnswer answer("Hello!");
    answer.fails_at = 3;
    return answer;
  };
  Responses server(setup);
  const auto exchange = server.post({{"input", "Hi"}, {"stream", true}});
  const auto events = read_events(exchange->written);
  CHECK(events.back().name == "response.failed");
  CHECK(
      Json::parse(events.back().data)["response"]["error"]["code"] ==
      "server_error");
  CHECK(server.post({{"input", "Hi"}})->head.status == 500);
}

TEST_CASE("responses: the work ends when the client goes away") {
  Responses server("Hello!");
  server.scripted.hold_steps();
  const auto exchange =
      server.begin("POST", "/v1/responses", R"({"input": "Hi"})");
  REQUIRE(server.until([&] { return server.scripted.active() == 1; }));
  REQUIRE(exchange->disconnect);
  exchange->disconnect();
  CHECK(server.is_idle());
  CHECK_FALSE(exchange->begun);
}
