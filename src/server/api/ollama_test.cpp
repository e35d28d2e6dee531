#include <doctest/doctest.h>

#include <optional>
#include <tuple>
#include <utility>

#include "server/api/routes.h"
#include "server/api/test_exchange.h"
#include "server/api/test_ollama.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

class BrowserExchange : public TestExchange {
 public:
  BrowserExchange() {
    request_.headers = {{"accept", "text/html,*/*"}};
  }
  const HttpRequest& request() const override {
    return request_;
  }

 private:
  HttpRequest request_;
};

// A server without sockets, whose engine is scripted.
struct Fixture {
  explicit Fixture(ScriptedSetup setup = {}, EmbeddingForm embedding = {})
      : scripted(std::move(setup)), options(options_of(scripted, embedding)) {}

  static ServerOptions options_of(
      const Scripted& scripted,
      const EmbeddingForm& embedding) {
    ServerOptions options = scripted_options(scripted);
    options.keep_alive_seconds = 0;
    options.models[0].embedding = embedding;
    return options;
  }

  void call(
      const std::string& method,
      const std::string& path,
      const std::shared_ptr<TestExchange>& exchange) {
    for (const Route& route : ollama_routes()) {
      if (route.method != method || route.path != path) {
        continue;
      }
      try {
        route.handle(context, exchange, {});
      } catch (...) {
        exchange->send(error_response(
            route.dialect, to_api_error(std::current_exception())));
      }
      return;
    }
    FAIL("no route " << method << " " << path);
  }
  std::shared_ptr<TestExchange> start(
      const std::string& path,
      const std::string& body) {
    const auto exchange = std::make_shared<TestExchange>(body);
    call("POST", path, exchange);
    return exchange;
  }
  std::shared_ptr<TestExchange> post(
      const std::string& path,
      const std::string& body) {
    const auto exchange = start(path, body);
    REQUIRE(loop.run_until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    return exchange;
  }
  Json get(const std::string& path) {
    const auto exchange = std::make_shared<TestExchange>();
    call("GET", path, exchange);
    return Json::parse(exchange->written);
  }
  std::string error(const std::shared_ptr<TestExchange>& exchange) {
    return Json::parse(exchange->written)["error"];
  }
  bool wait_for(ModelStatus::State state) {
    return loop.run_until([&] { return models.status().state == state; });
  }

  Scripted scripted;
  ManualLoop loop;
  LoopWorkers workers{loop};
  ServerOptions options;
  ModelHost models{options, loop};
  Metrics metrics;
  Generations generations{options, loop, workers, models, metrics};
  ApiContext context{options, loop, workers, models, generations, metrics, [] {
                     }};
};

struct EmbeddingFixture : Fixture {
  EmbeddingFixture() : Fixture({}, scripted_form()) {}
};

constexpr auto kReleased = ModelStatus::State::released;
constexpr auto kReady = ModelStatus::State::ready;

constexpr const char* kTools = R"("tools": [{"type": "function", "function":
    {"name": "weather", "parameters": {"type": "object",
     "properties": {"city": {"type": "string"}}}}}])";

} // namespace

TEST_CASE("ollama: a chat is streamed, and ends with its figures") {
  Fixture f;
  const auto exchange = f.post("/api/chat", R"({"model": "scripted:latest",
      "messages": [{"role": "user", "content": "Hi"}]})");
  CHECK(exchange->head.content_type == "application/x-ndjson");
  const auto lines = read_lines(exchange->written);
  REQUIRE(lines.size() >= 3);
  std::string text;
  for (const Json& line : lines) {
    CHECK(line["model"] == "scripted:latest");
    text += line["message"]["content"].get<std::string>();
  }
  CHECK(text == "Hello!");
  const Json& last = lines.back();
  CHECK(last["done"] == true);
  CHECK(last["done_reason"] == "stop");
  const auto requests = f.scripted.requests();
  REQUIRE(requests.size() == 1);
  CHECK(last["prompt_eval_count"] == requests[0].tokens.size());
  CHECK(last["eval_count"] >= 6);
  CHECK(
      requests[0].prompt ==
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("ollama: a chat in one piece, by an alias") {
  Fixture f;
  const auto exchange = f.post("/api/chat", R"({"model": "default",
      "messages": [{"role": "user", "content": "Hi"}], "stream": false})");
  CHECK(exchange->head.content_type == "application/json");
  const Json answer = Json::parse(exchange->written);
  CHECK(
      answer["message"] == Json{{"role", "assistant"}, {"content", "Hello!"}});
  CHECK(answer["model"] == "default");
  CHECK(answer["done_reason"] == "stop");
}

TEST_CASE("ollama: a generation, by the template or raw") {
  Fixture f;
  const auto exchange = f.post("/api/generate", R"({"model": "scripted",
      "prompt": "Why?", "system": "Be brief.", "stream": false})");
  CHECK(Json::parse(exchange->written)["response"] == "Hello!");
  f.post("/api/generate", R"({"model": "scripted", "prompt": "Why?",
      "raw": true})");
  const auto requests = f.scripted.requests();
  REQUIRE(requests.size() == 2);
  CHECK(
      requests[0].prompt ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?"
      "<|im_end|>\n<|im_start|>assistant\n");
  CHECK(requests[1].prompt == "Why?");
}

TEST_CASE("ollama: an answer that is cut off says so") {
  Fixture f;
  const auto exchange = f.post("/api/generate", R"({"model": "scripted",
      "prompt": "Why?", "stream": false, "options": {"num_predict": 3}})");
  const Json answer = Json::parse(exchange->written);
  CHECK(answer["response"] == "Hel");
  CHECK(answer["done_reason"] == "length");
  CHECK(answer["eval_count"] == 3);
}

TEST_CASE("ollama: reasoning and calls of tools are told apart") {
  Fixture f({.script = [](const ScriptedRequest&) {
    return "<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\": \"weather\", "
           "\"arguments\": {\"city\": \"Tokyo\"}}\n</tool_call>";
  }});
  const auto exchange = f.post(
      "/api/chat",
      std::string(R"({"model": "scripted", "stream": true, "think": true,
      "messages": [{"role": "user", "content": "Hi"}], )") +
          kTools + "}");
  std::string thinking;
  Json calls = Json::array();
  for (const Json& line : read_lines(exchange->written)) {
    const Json& message = line["message"];
    thinking += message.value("thinking", "");
    CHECK(message["content"] == "");
    for (const Json& call : message.value("tool_calls", Json::array())) {
      calls.push_back(call);
    }
  }
  CHECK(thinking == "Hm.");
  REQUIRE(calls.size() == 1);
  CHECK(!calls[0]["id"].get<std::string>().empty());
  CHECK(calls[0]["function"]["name"] == "weather");
  CHECK(calls[0]["function"]["arguments"] == Json{{"city", "Tokyo"}});
}

TEST_CASE("ollama: the prompt says whether the model may think") {
  Fixture f;
  f.post("/api/chat", R"({"model": "scripted", "think": false,
      "messages": [{"role": "user", "content": "Hi"}]})");
  CHECK(f.scripted.requests()[0].prompt.ends_with("<think>\n\n</think>\n\n"));
}

TEST_CASE("ollama: log-probabilities of what was chosen") {
  Fixture f;
  const auto exchange = f.post("/api/generate", R"({"model": "scripted",
      "prompt": "x", "stream": false, "logprobs": true, "top_logprobs": 2})");
  const Json answer = Json::parse(exchange->written);
  REQUIRE(answer["logprobs"].size() >= 6);
  CHECK(answer["logprobs"][0]["token"] == "H");
  CHECK(answer["logprobs"][0]["bytes"] == Json::array({'H'}));
  CHECK(answer["logprobs"][0]["top_logprobs"].size() == 2);
}

TEST_CASE("ollama: more context than there is, is refused") {
  Fixture f({.context_tokens = 1024, .model_context = 4096});
  const std::string body = R"({"model": "scripted", "prompt": "x",
      "options": {"num_ctx": 2048}})";
  // The model is loaded first, for only then is it known.
  const auto first = f.post("/api/generate", body);
  CHECK(first->head.status == 400);
  CHECK(f.error(first).find("--ctx 2048") != std::string::npos);
  CHECK(f.scripted.opened() == 1);
  const auto second = f.start("/api/generate", body); // at once
  CHECK(second->head.status == 400);
  CHECK(f.scripted.requests().empty());
  const auto third = f.post("/api/generate", R"({"model": "scripted",
      "prompt": "x", "options": {"num_ctx": 1024}})");
  CHECK(third->head.status == 200);
}

TEST_CASE("ollama: a context that fits is answered by a model to be loaded") {
  Fixture f;
  const auto exchange = f.post("/api/generate", R"({"model": "other",
      "prompt": "x", "stream": false, "options": {"num_ctx": 1024}})");
  const Json answer = Json::parse(exchange->written);
  CHECK(answer["response"] == "Hello!");
  CHECK(answer["load_duration"] > 0);
  CHECK(f.models.status().name == "other");
}

TEST_CASE("ollama: a model that cannot be loaded is an error") {
  Fixture f;
  f.scripted.fail_loading("the disk is gone");
  for (const char* more : {"", R"(, "options": {"num_ctx": 16})"}) {
    for (const char* prompt : {"", "x"}) {
      const auto exchange = f.post(
          "/api/generate",
          std::string(R"({"model": "scripted", "prompt": ")") + prompt + "\"" +
              more + "}");
      CHECK(exchange->head.status == 500);
      CHECK(f.error(exchange).find("the disk is gone") != std::string::npos);
    }
  }
}

TEST_CASE("ollama: an empty request loads the model, or lets it go") {
  Fixture f;
  const auto load = f.post("/api/generate", R"({"model": "other"})");
  CHECK(load->head.content_type == "application/json");
  CHECK(Json::parse(load->written)["done_reason"] == "load");
  CHECK(Json::parse(load->written)["response"] == "");
  CHECK(f.models.status().state == kReady);
  CHECK(f.models.status().name == "other");
  // That of another model is none of it.
  f.post("/api/generate", R"({"model": "scripted", "keep_alive": 0})");
  f.loop.run();
  CHECK(f.models.status().state == kReady);
  const auto unload = f.post("/api/chat", R"({"model": "other",
      "messages": [], "keep_alive": "0s"})");
  CHECK(Json::parse(unload->written)["done_reason"] == "unload");
  CHECK(f.wait_for(kReleased));
  CHECK(f.scripted.requests().empty());
}

TEST_CASE("ollama: keep_alive says how long the model stays") {
  Fixture f;
  f.post("/api/generate", R"({"model": "scripted", "keep_alive": "10m"})");
  REQUIRE(f.loop.run_until(
      [&] { return f.models.status().seconds_left.has_value(); }));
  CHECK(*f.models.status().seconds_left > 590);
  f.post("/api/generate", R"({"model": "scripted", "prompt": "x",
      "keep_alive": 0})");
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("ollama: a model that is let go does not stay for an answer") {
  Fixture f;
  f.scripted.hold_steps();
  const auto chat = f.start("/api/generate", R"({"model": "scripted",
      "prompt": "x", "keep_alive": -1})");
  REQUIRE(f.loop.run_until([&] { return f.scripted.active() == 1; }));
  f.post("/api/generate", R"({"model": "scripted", "keep_alive": 0})");
  f.scripted.release_steps();
  REQUIRE(f.loop.run_until([&] { return chat->ended; }));
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("ollama: a model that is released while it is loaded answers first") {
  Fixture f;
  f.scripted.hold_loading();
  const auto chat = f.start("/api/generate", R"({"model": "scripted",
      "prompt": "x", "options": {"num_ctx": 100}})");
  f.loop.run();
  f.models.release();
  f.scripted.release_loading();
  REQUIRE(f.loop.run_until([&] { return chat->ended; }));
  CHECK(chat->head.status == 200);
  CHECK(f.wait_for(kReleased));
  CHECK(f.scripted.opened() == 1);
}

TEST_CASE("ollama: a client that goes away ends its answer") {
  Fixture f;
  f.scripted.hold_steps();
  const auto exchange = f.start("/api/generate", R"({"model": "scripted",
      "prompt": "x"})");
  REQUIRE(f.loop.run_until([&] { return f.scripted.active() == 1; }));
  REQUIRE(exchange->disconnect);
  exchange->disconnect();
  CHECK(f.loop.run_until([&] { return f.scripted.active() == 0; }));
  CHECK(!exchange->begun);
}

TEST_CASE("ollama: an engine that fails is an error, of the stream or before") {
  Fixture f({.script = [](const ScriptedRequest& request) {
    ScriptedAnswer answer("Hello!");
    answer.fails_at = request.number == 0 ? 0 : 3;
    answer.why = "the disk is gone";
    return answer;
  }});
  const std::string body = R"({"model": "scripted", "prompt": "x"})";
  const auto first = f.post("/api/generate", body);
  CHECK(first->head.status == 500);
  CHECK(f.error(first) == "the disk is gone");
  const auto second = f.post("/api/generate", body);
  CHECK(second->head.status == 200);
  const auto lines = read_lines(second->written);
  CHECK(lines.front()["response"] == "H");
  CHECK(lines.back() == Json{{"error", "the disk is gone"}});
}

TEST_CASE("ollama: mistakes in bodies are errors in Ollama's form") {
  Fixture f;
  const auto no_json = f.start("/api/chat", "model=x");
  CHECK(no_json->head.status == 400);
  CHECK(Json::parse(no_json->written).size() == 1);
  CHECK(f.error(no_json).starts_with("the body is not JSON"));
  const auto unknown = f.start("/api/generate", R"({"model": "llama3"})");
  CHECK(unknown->head.status == 404);
  CHECK(
      f.error(unknown) ==
      "model 'llama3' not found; this server has scripted, other");
  const auto field = f.start("/api/chat", R"({"model": "scripted", "x": 1})");
  CHECK(field->head.status == 400);
  CHECK(f.error(field) == "x is not a field that is known here");
}

TEST_CASE("ollama: embeddings are refused for a model without") {
  Fixture f;
  for (const auto& [path, body] :
       {std::pair{
            "/api/embed", R"({"model": "scripted:latest", "input": "x"})"},
        std::pair{"/api/embeddings", R"({"model": "scripted", "prompt": "x"})"},
        std::pair{"/api/embed", R"({"model": "scripted", "input": ""})"}}) {
    const auto refused = f.post(path, body);
    CHECK(refused->head.status == 400);
    CHECK(f.error(refused) == "the model 'scripted' has no embeddings");
  }
  CHECK(f.scripted.opened() == 0);
  CHECK(
      f.start("/api/embed", R"({"model": "x", "input": "x"})")->head.status ==
      404);
  CHECK(
      f.error(f.start("/api/embed", R"({"model": "scripted"})")) ==
      "input is missing");
}

TEST_CASE("ollama: embeddings, and what they took") {
  EmbeddingFixture f;
  const auto many =
      Json::parse(f.post(
                       "/api/embed",
                       R"({"model": "scripted:latest", "input": ["abc", "d"]})")
                      ->written);
  CHECK(many["model"] == "scripted:latest");
  CHECK(
      many["embeddings"] ==
      Json::parse("[[3, 97, 99, 0.5], [1, 100, 100, 0.5]]"));
  CHECK(many["prompt_eval_count"] == 4);
  CHECK(many["total_duration"].get<int64_t>() > 0);
  CHECK(
      many["total_duration"].get<int64_t>() >=
      many["load_duration"].get<int64_t>());
  CHECK(
      Json::parse(
          f.post("/api/embeddings", R"({"model": "scripted", "prompt": "d"})")
              ->written) ==
      Json::parse(R"({"embedding": [1, 100, 100, 0.5]})"));
}

TEST_CASE("ollama: a text that is too long is cut unless it may not be") {
  EmbeddingFixture f;
  const Json body{
      {"model", "scripted"}, {"input", std::string(5000, 'a') + "b"}};
  const auto cut = f.post("/api/embed", body.dump());
  CHECK(
      Json::parse(cut->written)["embeddings"] ==
      Json::parse("[[4096, 97, 97, 0.5]]"));
  Json whole = body;
  whole["truncate"] = false;
  const auto refused = f.post("/api/embed", whole.dump());
  CHECK(refused->head.status == 400);
  CHECK(f.error(refused).starts_with("input has 5001 tokens"));
}

TEST_CASE("ollama: without a text to embed the model is loaded") {
  for (const auto& [path, body, answer] :
       {std::tuple{
            "/api/embed",
            R"({"model": "scripted", "input": ""})",
            "embeddings"},
        std::tuple{
            "/api/embed",
            R"({"model": "scripted", "input": []})",
            "embeddings"},
        std::tuple{
            "/api/embeddings",
            R"({"model": "scripted", "prompt": ""})",
            "embedding"}}) {
    EmbeddingFixture f;
    const auto exchange = f.post(path, body);
    CHECK(exchange->head.status == 200);
    CHECK(Json::parse(exchange->written)[answer] == Json::array());
    CHECK(f.scripted.opened() == 1);
    CHECK(f.scripted.requests().empty());
  }
  EmbeddingFixture f;
  f.post(
      "/api/embed", R"({"model": "scripted", "input": "", "keep_alive": 0})");
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("ollama: how long the model stays after embeddings can be said") {
  EmbeddingFixture f;
  f.post(
      "/api/embed", R"({"model": "scripted", "input": "a", "keep_alive": 0})");
  CHECK(f.wait_for(kReleased));
}

TEST_CASE("ollama: what a model can do includes embeddings") {
  EmbeddingFixture f;
  const auto shown = [&](const char* model) {
    const auto exchange = f.post("/api/show", Json{{"model", model}}.dump());
    return Json::parse(exchange->written)["capabilities"];
  };
  CHECK(shown("scripted").back() == "embedding");
  CHECK(shown("other").back() != "embedding");
}

TEST_CASE("ollama: models cannot be changed") {
  Fixture f;
  const std::vector<std::pair<std::string, std::string>> routes{
      {"POST", "/api/pull"},
      {"POST", "/api/push"},
      {"POST", "/api/create"},
      {"POST", "/api/copy"},
      {"DELETE", "/api/delete"},
      {"POST", "/api/blobs/{digest}"},
      {"HEAD", "/api/blobs/{digest}"}};
  for (const auto& [method, path] : routes) {
    CAPTURE(path);
    const auto exchange =
        std::make_shared<TestExchange>(R"({"model": "scripted"})");
    f.call(method, path, exchange);
    CHECK(exchange->head.status == 403);
    CHECK(f.error(exchange).find("cannot be changed") != std::string::npos);
  }
}

TEST_CASE("ollama: lists, shows and its version") {
  Fixture f;
  CHECK(f.get("/api/tags")["models"][0]["name"] == "scripted:latest");
  CHECK(f.get("/api/ps") == Json{{"models", Json::array()}});
  const Json version = f.get("/api/version");
  CHECK(version["server"] == "mlx-flash");
  // Three numbers and nothing else: clients compare them one by one.
  int major = 0;
  int minor = 0;
  int patch = 0;
  char rest = 0;
  CHECK(
      std::sscanf(
          version["version"].get<std::string>().c_str(),
          "%d.%d.%d%c",
          &major,
          &minor,
          &patch,
          &rest) == 3);
  const auto show = f.start("/api/show", R"({"model": "scripted"})");
  CHECK(
      Json::parse(show->written)["model_info"]["general.basename"] ==
      "scripted");
  CHECK(f.start("/api/show", R"({"model": "x"})")->head.status == 404);
  CHECK(f.scripted.opened() == 0);
}

TEST_CASE("ollama: the root says what clients look for, and people the truth") {
  Fixture f;
  const auto client = std::make_shared<TestExchange>();
  f.call("GET", "/", client);
  CHECK(client->written == "Ollama is running");
  CHECK(client->head.content_type.starts_with("text/plain"));
  const auto browser = std::make_shared<BrowserExchange>();
  f.call("GET", "/", browser);
  CHECK(browser->written.starts_with("mlx-flash is running"));
}

TEST_CASE("ollama: what may take long is done by workers") {
  for (const Route& route : ollama_routes()) {
    CAPTURE(route.path);
    CHECK(route.dialect == Dialect::ollama);
    const bool plain = route.path == "/" || route.path == "/api/version";
    const bool refused = route.method == "DELETE" ||
        route.path.starts_with("/api/blobs") || route.path == "/api/pull" ||
        route.path == "/api/push" || route.path == "/api/create" ||
        route.path == "/api/copy";
    CHECK(route.slow == !(plain || refused));
  }
}
