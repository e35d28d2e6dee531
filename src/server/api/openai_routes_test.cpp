// OpenAI's routes from a body to its answer, with a scripted engine.
#include <doctest/doctest.h>

#include "server/api/embedding_reply.h"
#include "server/api/routes.h"
#include "server/api/test_openai.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

namespace {

// Of the model that is loaded, unless `changes` name one.
std::string loaded_body(const std::string& changes) {
  return changed(
             R"({"messages": [{"role": "user", "content": "Hi"}]})", changes)
      .dump();
}

class OpenAiServer : public GenerationsFixture {
 public:
  using GenerationsFixture::GenerationsFixture;

  std::shared_ptr<TestExchange> begin(
      const std::vector<Route>& routes,
      size_t which,
      const std::string& body,
      const std::string& argument = {}) {
    const auto exchange = std::make_shared<TestExchange>(body);
    routes.at(which).handle(context, exchange, argument);
    return exchange;
  }
  std::shared_ptr<TestExchange> ask(
      const std::vector<Route>& routes,
      const std::string& body) {
    const auto exchange = begin(routes, 0, body);
    REQUIRE(until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    return exchange;
  }
  std::shared_ptr<TestExchange> chat(const std::string& changes) {
    return ask(openai_chat_routes(), loaded_body(changes));
  }
  std::shared_ptr<TestExchange> complete(const std::string& changes) {
    return ask(
        openai_completions_routes(),
        changed(R"({"prompt": "Once"})", changes).dump());
  }

  ApiContext
      context{options, loop, workers, *models, *generations, metrics, [] {}};
};

TestJson object_of(const std::shared_ptr<TestExchange>& exchange) {
  REQUIRE(exchange->head.status == 200);
  return TestJson::parse(exchange->written);
}

// What the deltas of a stream add up to.
struct Joined {
  std::string reasoning, content, finish_reason;
  std::vector<std::string> names, arguments;
};

Joined join(const std::shared_ptr<TestExchange>& exchange) {
  Joined all;
  for (const TestJson& chunk : chunks_of(exchange->written)) {
    for (const TestJson& choice : chunk["choices"]) {
      const TestJson& delta = choice["delta"];
      all.content += delta.value("content", "");
      all.reasoning += delta.value("reasoning_content", "");
      for (const TestJson& call : delta.value("tool_calls", TestJson())) {
        const size_t index = call["index"];
        all.names.resize(std::max(all.names.size(), index + 1));
        all.arguments.resize(all.names.size());
        all.names[index] += call["function"].value("name", "");
        all.arguments[index] += call["function"].value("arguments", "");
      }
      if (!choice["finish_reason"].is_null()) {
        all.finish_reason += choice["finish_reason"];
      }
    }
  }
  return all;
}

constexpr const char* kTools = R"("tools": [{"type": "function", "function": {
    "name": "look", "parameters": {"type": "object", "properties": {
      "at": {"type": "string"}}}}}])";

constexpr const char* kCall =
    "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}\n"
    "</tool_call>";

} // namespace

TEST_CASE("openai routes: they are slow, for they read bodies") {
  CHECK(openai_chat_routes().at(0).slow);
  CHECK(openai_chat_routes()[0].path == "/v1/chat/completions");
  CHECK(openai_completions_routes().at(0).slow);
  CHECK(openai_completions_routes()[0].path == "/v1/completions");
  CHECK(!openai_models_routes().at(0).slow);
}

TEST_CASE("openai routes: bodies keep to the server's limits") {
  OpenAiServer server("Hello!", [](ServerOptions& options) {
    options.limits.json_values = 40;
  });
  const auto bias = [&](int entries) {
    TestJson changes = {{"logit_bias", TestJson::object()}};
    for (int i = 0; i < entries; ++i) {
      changes["logit_bias"][std::to_string(i)] = 1;
    }
    return changes.dump();
  };
  CHECK(object_of(server.chat(bias(10)))["choices"].size() == 1);
  CHECK_THROWS_AS(server.chat(bias(20)), ApiError);
}

TEST_CASE("openai routes: a schema that cannot be compiled is no stream") {
  ScriptedSetup setup;
  setup.check = [](const Constraint&) {
    throw Error(ErrorCode::invalid_argument, "[grammar] cannot enforce not");
  };
  OpenAiServer server(setup);
  for (const char* stream : {"true", "false"}) {
    const auto exchange = server.chat(
        std::string(R"({"guided_json": {"not": {}}, "stream": )") + stream +
        "}");
    CHECK(exchange->head.status == 400);
    const TestJson error = TestJson::parse(exchange->written)["error"];
    CHECK(error["param"] == "guided_json");
    CHECK(error["message"] == "guided_json: [grammar] cannot enforce not");
  }
}

TEST_CASE("openai routes: an answer in one piece and the same as a stream") {
  OpenAiServer server("<think>\nhm\n</think>\n\nHello!");
  const TestJson object = object_of(server.chat("{}"));
  const TestJson choice = object["choices"][0];
  CHECK(choice["message"]["content"] == "Hello!");
  CHECK(choice["message"]["reasoning_content"] == "hm");
  CHECK(choice["finish_reason"] == "stop");
  CHECK(object["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0);

  const auto stream = server.chat(R"({"stream": true})");
  const Joined joined = join(stream);
  CHECK(joined.content == "Hello!");
  CHECK(joined.reasoning == "hm");
  CHECK(joined.finish_reason == "stop");
  CHECK(chunks_of(stream->written)[0]["model"] == object["model"]);
}

TEST_CASE("openai routes: calls of tools, in one piece and as a stream") {
  OpenAiServer server(kCall);
  const std::string tools = kTools;
  const TestJson choice =
      object_of(server.chat("{" + tools + "}"))["choices"][0];
  CHECK(choice["finish_reason"] == "tool_calls");
  const TestJson call = choice["message"]["tool_calls"].at(0);
  CHECK(call["function"]["name"] == "look");
  CHECK(
      TestJson::parse(call["function"]["arguments"].get<std::string>()) ==
      TestJson{{"at", "x"}});

  const Joined joined = join(server.chat(R"({"stream": true, )" + tools + "}"));
  REQUIRE(joined.names.size() == 1);
  CHECK(joined.names[0] == "look");
  CHECK(TestJson::parse(joined.arguments[0]) == TestJson{{"at", "x"}});
  CHECK(joined.finish_reason == "tool_calls");
}

TEST_CASE("openai routes: log-probabilities of all of the content") {
  OpenAiServer server("Hey");
  const TestJson choice = object_of(
      server.chat(R"({"logprobs": true, "top_logprobs": 2})"))["choices"][0];
  std::string text;
  for (const TestJson& token : choice["logprobs"]["content"]) {
    text += token["token"];
    CHECK(token["top_logprobs"].size() == 2);
  }
  CHECK(text == "Hey");
}

TEST_CASE("openai routes: what is wrong with a body is thrown, unanswered") {
  OpenAiServer server("x");
  for (const char* body : {"", "{", "[]", "{}", "{\"messages\": 1}"}) {
    const auto exchange = std::make_shared<TestExchange>(body);
    CHECK_THROWS_AS(
        openai_chat_routes()[0].handle(server.context, exchange, ""), ApiError);
    CHECK(!exchange->begun);
  }
}

TEST_CASE("openai routes: an answer that the request begins is refused") {
  OpenAiServer server("Hello!");
  CHECK_THROWS_WITH_AS(
      server.chat(R"({"messages": [{"role": "user", "content": "Hi"},
                                   {"role": "assistant", "content": "He"}]})"),
      doctest::Contains("messages must not end with the assistant's"),
      ApiError);
}

TEST_CASE("openai routes: an unknown model is an error of its own status") {
  OpenAiServer server("x");
  for (const char* stream : {"false", "true"}) {
    const auto exchange = server.chat(
        std::string(R"({"model": "none", "stream": )") + stream + "}");
    CHECK(exchange->head.status == 404);
    CHECK(
        TestJson::parse(exchange->written)["error"]["message"]
            .get<std::string>()
            .find("none") != std::string::npos);
  }
}

TEST_CASE("openai routes: a full queue is told through the sink") {
  OpenAiServer server("x", [](ServerOptions& options) {
    options.limits.parallel = 1;
    options.limits.queue = 1;
  });
  server.scripted.hold_steps();
  const auto first =
      server.begin(openai_chat_routes(), 0, loaded_body(R"({"n": 2})"));
  const auto second = server.chat(R"({"stream": true})");
  CHECK(second->head.status == 429);
  CHECK(second->header("retry-after") != "");
  server.scripted.release_steps();
  CHECK(server.until([&] { return first->ended; }));
}

TEST_CASE("openai routes: an engine's error is one of the answer") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest&) {
    ScriptedAnswer answer("Hello");
    answer.fails_at = 2;
    return answer;
  };
  OpenAiServer server(setup);
  CHECK(server.chat("{}")->head.status == 500);
  const auto stream = server.chat(R"({"stream": true})");
  CHECK(stream->head.status == 200);
  const auto events = read_events(stream->written);
  CHECK(events.back().data.rfind("{\"error\":", 0) == 0);
  CHECK(server.is_idle());
}

TEST_CASE("openai routes: a client that goes away ends its answers") {
  for (const char* changes : {"{}", R"({"stream": true, "n": 2})"}) {
    OpenAiServer server("Hello");
    server.scripted.hold_steps();
    const auto exchange =
        server.begin(openai_chat_routes(), 0, loaded_body(changes));
    REQUIRE(server.until([&] { return server.scripted.active() > 0; }));
    exchange->disconnect();
    CHECK(server.is_idle());
    CHECK(!exchange->ended);
  }
}

TEST_CASE("openai routes: a client that goes away ends all of its prompts") {
  OpenAiServer server("Hello");
  server.scripted.hold_steps();
  const auto exchange = server.begin(
      openai_completions_routes(), 0, R"({"prompt": ["a", "b", "c"]})");
  REQUIRE(server.until([&] { return server.scripted.active() == 3; }));
  exchange->disconnect();
  CHECK(server.is_idle());
}

TEST_CASE("openai routes: nothing is left of an answer that has ended") {
  OpenAiServer server("Hello");
  std::weak_ptr<TestExchange> left = server.chat(R"({"stream": true})");
  CHECK(server.is_idle());
  // The exchange's own: a server lets go of it when the answer is written.
  if (const auto exchange = left.lock()) {
    exchange->disconnect = nullptr;
  }
  server.loop.run();
  CHECK(left.expired());
}

TEST_CASE("openai routes: comments while a stream waits for its model") {
  OpenAiServer server("Hello", [](ServerOptions& options) {
    options.keep_alive_seconds = 0.001;
  });
  server.scripted.hold_loading();
  const auto exchange =
      server.begin(openai_chat_routes(), 0, loaded_body(R"({"stream": true})"));
  REQUIRE(server.until([&] {
    server.loop.advance(0.001);
    return exchange->begun;
  }));
  CHECK(exchange->written.rfind(": waiting\n\n", 0) == 0);
  server.scripted.release_loading();
  REQUIRE(server.until([&] { return exchange->ended; }));
  CHECK(join(exchange).content == "Hello");
}

TEST_CASE("openai routes: completions of several prompts") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest& request) {
    return ScriptedAnswer("<" + request.prompt + ">");
  };
  OpenAiServer server(setup);
  const TestJson object = object_of(
      server.complete(R"({"prompt": ["a", [98]], "n": 2, "best_of": 2})"));
  REQUIRE(object["choices"].size() == 4);
  const char* texts[] = {"<a>", "<a>", "<b>", "<b>"};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(object["choices"][i]["index"] == i);
    CHECK(object["choices"][i]["text"] == texts[i]);
    CHECK(object["choices"][i]["finish_reason"] == "stop");
  }
  CHECK(object["usage"]["prompt_tokens"] == 2);
}

TEST_CASE("openai routes: an echo with log-probabilities, and nothing more") {
  OpenAiServer server("!");
  const char* bodies[] = {
      R"({"prompt": "abc", "echo": true, "logprobs": 2, "max_tokens": 0})",
      R"({"prompt": [97, 98, 99], "echo": true, "logprobs": 2,
          "max_tokens": 0})"};
  for (const char* body : bodies) {
    const TestJson choice = object_of(server.complete(body))["choices"][0];
    CHECK(choice["text"] == "abc");
    CHECK(choice["finish_reason"] == "length");
    const TestJson logprobs = choice["logprobs"];
    CHECK(logprobs["tokens"] == TestJson{"a", "b", "c"});
    CHECK(logprobs["text_offset"] == TestJson{0, 1, 2});
    CHECK(logprobs["token_logprobs"][0].is_null());
    CHECK(logprobs["token_logprobs"][1] == scripted_logprob(98));
    CHECK(logprobs["top_logprobs"][2].size() == 2);
  }
  // Its tokens' texts are needed, their log-probabilities are not.
  const TestJson plain = object_of(
      server.complete(R"({"prompt": [97, 98], "echo": true})"))["choices"][0];
  CHECK(plain["text"] == "ab!");
  CHECK(plain["logprobs"].is_null());
}

TEST_CASE("openai routes: a stream of completions") {
  OpenAiServer server("Hello");
  const auto exchange = server.complete(
      R"({"stream": true, "stream_options": {"include_usage": true}})");
  std::string text;
  const auto chunks = chunks_of(exchange->written);
  REQUIRE(!chunks.empty());
  for (const TestJson& chunk : chunks) {
    for (const TestJson& choice : chunk["choices"]) {
      text += choice["text"];
    }
  }
  CHECK(text == "Hello");
  CHECK(chunks.back()["usage"]["completion_tokens"] == 5);
}

TEST_CASE("openai routes: models by name, and those that are not") {
  OpenAiServer server("x");
  const auto routes = openai_models_routes();
  const TestJson list = object_of(server.begin(routes, 0, ""));
  const std::string name = list["data"].at(0)["id"];
  CHECK(object_of(server.begin(routes, 1, "", name))["id"] == name);
  try {
    server.begin(routes, 1, "", "none");
    FAIL("found");
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::not_found);
    CHECK(error.code == "model_not_found");
  }
}

TEST_CASE("openai routes: embeddings of a model without are refused by name") {
  OpenAiServer server("x");
  const auto refused = [&](const char* body) {
    const auto exchange = server.begin(openai_models_routes(), 2, body);
    REQUIRE(server.until([&] { return exchange->ended; }));
    return exchange;
  };
  const auto exchange = refused(R"({"input": "a"})");
  CHECK(exchange->head.status == 400);
  const TestJson error = TestJson::parse(exchange->written)["error"];
  CHECK(error["param"] == "model");
  CHECK(error["code"] == "unsupported");
  CHECK(
      error["message"].get<std::string>().find(
          server.models->models().front().name) != std::string::npos);
  CHECK(refused(R"({"input": "a", "model": "none"})")->head.status == 404);
}

TEST_CASE("openai routes: embeddings of texts and of tokens") {
  OpenAiServer server("x", [](ServerOptions& options) {
    options.models[0].embedding = scripted_form();
  });
  const auto embed = [&](const char* body) {
    const auto exchange = server.begin(openai_models_routes(), 2, body);
    REQUIRE(server.until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    return exchange;
  };
  CHECK(
      object_of(embed(R"({"model": "default", "input": ["abc", "d"]})")) ==
      TestJson::parse(R"({"object": "list", "data": [
          {"object": "embedding", "index": 0, "embedding": [3, 97, 99, 0.5]},
          {"object": "embedding", "index": 1, "embedding": [1, 100, 100, 0.5]}],
          "model": "scripted",
          "usage": {"prompt_tokens": 4, "total_tokens": 4}})"));
  const TestJson encoded = object_of(
      embed(R"({"input": [1], "encoding_format": "base64", "dimensions": 4})"));
  CHECK(
      encoded["data"][0]["embedding"] ==
      TestJson::parse(base64_string(std::vector<float>{1, 1, 1, 0.5f})));
  const auto wrong = embed(R"({"input": "a", "dimensions": 3})");
  CHECK(wrong->head.status == 400);
  CHECK(TestJson::parse(wrong->written)["error"]["param"] == "dimensions");
}

TEST_CASE("openai routes: a client that goes away ends its embeddings") {
  OpenAiServer server("x", [](ServerOptions& options) {
    options.models[0].embedding = scripted_form();
  });
  server.scripted.hold_steps();
  const auto exchange =
      server.begin(openai_models_routes(), 2, R"({"input": ["a", "b"]})");
  REQUIRE(server.until([&] { return server.scripted.active() == 2; }));
  exchange->disconnect();
  CHECK(server.is_idle());
  CHECK(!exchange->begun);
}
