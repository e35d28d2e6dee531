#include "server/router.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <nlohmann/json.hpp>

#include <sstream>
#include <stdexcept>
#include <thread>

#include "base/log.h"
#include "server/api/test_exchange.h"
#include "server/test_loop.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Json = nlohmann::ordered_json;

// What was answered, also when nobody holds the exchange any more.
struct Outcome {
  HttpResponse head;
  std::string body;
  bool answered = false;
  bool ended = false;
  uint64_t room = UINT64_MAX; // for a whole answer
  std::function<void()> disconnect;

  std::string header(const std::string& name) const {
    for (const auto& [key, value] : head.headers) {
      if (key == name) {
        return value;
      }
    }
    return {};
  }
  Json json() const {
    return Json::parse(body);
  }
};

class FakeExchange : public HttpExchange {
 public:
  FakeExchange(HttpRequest request, std::shared_ptr<Outcome> outcome)
      : request_(std::move(request)), outcome_(std::move(outcome)) {}

  const HttpRequest& request() const override {
    return request_;
  }
  void forget_body() override {
    request_.body.clear();
  }
  bool has_room(const HttpResponse& response) const override {
    return response.body.size() <= outcome_->room;
  }
  void send(HttpResponse response) override {
    begin(std::move(response));
    outcome_->ended = true;
  }
  void begin(HttpResponse response) override {
    CHECK(!outcome_->answered);
    outcome_->answered = true;
    outcome_->body = response.body;
    outcome_->head = std::move(response);
  }
  void write(std::string part) override {
    outcome_->body += part;
  }
  void end() override {
    outcome_->ended = true;
  }
  void on_disconnect(std::function<void()> callback) override {
    outcome_->disconnect = std::move(callback);
  }

 private:
  HttpRequest request_;
  const std::shared_ptr<Outcome> outcome_;
};

void answer(const std::shared_ptr<HttpExchange>& exchange, std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  exchange->send(std::move(response));
}

Route route(
    std::string method,
    std::string path,
    std::function<void(std::shared_ptr<HttpExchange>, std::string)> handle,
    Dialect dialect = Dialect::openai,
    bool slow = false) {
  Route made;
  made.method = std::move(method);
  made.path = std::move(path);
  made.dialect = dialect;
  made.handle = [handle = std::move(handle)](
                    ApiContext&, auto exchange, const std::string& argument) {
    handle(std::move(exchange), argument);
  };
  made.slow = slow;
  return made;
}

ServerOptions default_options() {
  ServerOptions options;
  options.models.emplace_back();
  options.models.back().name = "tiny";
  return options;
}

struct Fixture {
  explicit Fixture(ServerOptions given = default_options())
      : options(std::move(given)) {
    log::logger().sinks().swap(sinks);
    log::set_level("info");
  }
  ~Fixture() {
    log::logger().sinks().swap(sinks);
    log::set_level("warn");
  }

  std::vector<Route> routes() {
    const auto held = [this](auto exchange, const std::string& argument) {
      arguments.push_back(argument);
      bodies.push_back(exchange->request().body);
      kept = std::move(exchange);
    };
    return {
        route(
            "GET",
            "/health",
            [](const auto& e, const auto&) { answer(e, "healthy"); }),
        route(
            "GET",
            "/v1/models/{model...}",
            [](const auto& e, const auto& a) { answer(e, a); }),
        route("POST", "/v1/messages", held, Dialect::anthropic),
        route("POST", "/api/chat", held, Dialect::ollama),
        route("POST", "/v1/slow", held, Dialect::openai, true),
        route(
            "POST",
            "/v1/wrong",
            [](const auto&, const auto&) {
              throw invalid_field("n", "n must be positive");
            }),
        route(
            "POST",
            "/v1/broken",
            [](const auto&, const auto&) {
              throw std::runtime_error("on purpose");
            }),
    };
  }

  HttpRequest request(
      const std::string& method,
      const std::string& path,
      Headers headers = {}) {
    HttpRequest made;
    made.id = "req_1";
    made.method = method;
    made.path = path;
    made.headers = std::move(headers);
    made.body = "SECRET PROMPT";
    return made;
  }

  std::shared_ptr<Outcome> ask(
      const std::string& method,
      const std::string& path,
      Headers headers = {}) {
    auto outcome = std::make_shared<Outcome>();
    router.handle(std::make_shared<FakeExchange>(
        request(method, path, std::move(headers)), outcome));
    return outcome;
  }

  // The text of the metrics has this line.
  bool counted(const std::string& route, int status, int times = 1) {
    const std::string text = metrics.prometheus_text({}, nullptr, nullptr);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.find("requests_total{") != std::string::npos &&
          line.find("\"" + route + "\"") != std::string::npos &&
          line.find("\"" + std::to_string(status) + "\"") !=
              std::string::npos) {
        return line.ends_with("} " + std::to_string(times));
      }
    }
    return times == 0;
  }

  std::ostringstream logged;
  // In place of stderr.
  std::vector<spdlog::sink_ptr> sinks = {
      std::make_shared<spdlog::sinks::ostream_sink_mt>(logged)};
  const ServerOptions options;
  ManualLoop loop;
  LoopWorkers workers{loop};
  Metrics metrics;
  ModelHost models{options, loop};
  Generations generations{options, loop, workers, models, metrics};
  ApiContext context{options, loop, workers, models, generations, metrics, [] {
                     }};
  std::vector<std::string> arguments; // of the routes that keep exchanges
  std::vector<std::string> bodies; // as handlers saw them
  std::shared_ptr<HttpExchange> kept;
  Access access{options};
  Router router{routes(), access, context};
};

} // namespace

TEST_CASE("router: a request goes to its route, with its argument") {
  Fixture f;
  const auto outcome = f.ask("GET", "/v1/models/org/name");
  CHECK(outcome->head.status == 200);
  CHECK(outcome->body == "org/name");
  CHECK(outcome->header("x-request-id") == "req_1");
  CHECK(f.counted("/v1/models/{model...}", 200));
}

TEST_CASE("router: a HEAD goes where a GET does") {
  Fixture f;
  CHECK(f.ask("HEAD", "/health")->body == "healthy");
}

TEST_CASE("router: what is not there is a 404 that knows what was meant") {
  Fixture f;
  const auto outcome = f.ask("POST", "/slow");
  CHECK(outcome->head.status == 404);
  CHECK(
      outcome->json()["error"]["message"].get<std::string>().find(
          "did you mean /v1/slow?") != std::string::npos);
  CHECK(outcome->header("x-request-id") == "req_1");
  CHECK(f.ask("GET", std::string(100000, '/'))->body.size() < 1000);
  CHECK(f.counted("other", 404, 2));
}

TEST_CASE("router: another method is a 405 that says which there are") {
  Fixture f;
  const auto outcome = f.ask("PUT", "/health");
  CHECK(outcome->head.status == 405);
  CHECK(outcome->header("allow") == "GET, HEAD, OPTIONS");
}

TEST_CASE("router: OPTIONS tells the methods") {
  Fixture f;
  const auto outcome = f.ask("OPTIONS", "/v1/slow");
  CHECK(outcome->head.status == 204);
  CHECK(outcome->header("allow") == "POST, OPTIONS");
  CHECK(f.ask("OPTIONS", "*")->head.status == 204);
  CHECK(f.ask("OPTIONS", "/nothing")->head.status == 404);
}

TEST_CASE("router: errors have the form of the path's dialect") {
  Fixture f;
  CHECK(f.ask("GET", "/v1/messages/x")->json()["type"] == "error");
  CHECK(f.ask("GET", "/api/x")->json()["error"].is_string());
  CHECK(f.ask("GET", "/v1/x")->json()["error"]["code"] == "unknown_url");
}

TEST_CASE("router: Anthropic's clients find the id of a request too") {
  Fixture f;
  const auto outcome = f.ask("GET", "/v1/messages");
  CHECK(outcome->head.status == 405);
  CHECK(outcome->header("request-id") == "req_1");
  CHECK(f.ask("GET", "/health")->header("request-id").empty());
}

TEST_CASE("router: what a route throws is its answer") {
  Fixture f;
  const auto wrong = f.ask("POST", "/v1/wrong");
  CHECK(wrong->head.status == 400);
  CHECK(wrong->json()["error"]["param"] == "n");
  const auto broken = f.ask("POST", "/v1/broken");
  CHECK(broken->head.status == 500);
  CHECK(f.logged.str().find("on purpose") != std::string::npos);
  CHECK(f.counted("/v1/broken", 500));
}

TEST_CASE("router: a route that forgets its request is a 500 in its form") {
  Fixture f;
  const auto outcome = f.ask("POST", "/api/chat");
  CHECK(!outcome->answered);
  f.kept.reset();
  CHECK(outcome->head.status == 500);
  CHECK(outcome->json()["error"].is_string());
  CHECK(f.counted("/api/chat", 500));
}

TEST_CASE("router: slow routes run on a worker") {
  Fixture f;
  const auto outcome = f.ask("POST", "/v1/slow");
  CHECK(f.arguments.empty());
  f.loop.run();
  CHECK(f.arguments.size() == 1);
  CHECK(!outcome->answered);
}

TEST_CASE("router: with too much work a request may come again") {
  Fixture f;
  f.workers.refuse = true;
  const auto outcome = f.ask("POST", "/v1/slow");
  CHECK(outcome->head.status == 503);
  CHECK(outcome->header("retry-after") == "1");
  CHECK(f.ask("GET", "/health")->head.status == 200);
}

TEST_CASE("router: the key is asked for, but not by those who watch") {
  ServerOptions options = default_options();
  options.api_key = "k";
  Fixture f(options);
  CHECK(f.ask("GET", "/health")->head.status == 200);
  CHECK(f.ask("GET", "/v1/models/a")->head.status == 401);
  CHECK(f.ask("GET", "/nothing")->head.status == 401);
  CHECK(f.ask("GET", "/v1/models/a", {{"x-api-key", "k"}})->head.status == 200);
  const auto bad = f.ask("GET", "/health", {{"host", "evil.org"}});
  CHECK(bad->head.status == 403);
}

TEST_CASE("router: a browser's question needs no key, its request does") {
  ServerOptions options = default_options();
  options.api_key = "k";
  options.allowed_origins = {"https://chat.example.org"};
  Fixture f(options);
  const Headers from = {{"origin", "https://chat.example.org"}};
  Headers asking = from;
  asking.emplace_back("access-control-request-method", "POST");
  const auto question = f.ask("OPTIONS", "/v1/slow", asking);
  CHECK(question->head.status == 204);
  CHECK(
      question->header("access-control-allow-origin") ==
      "https://chat.example.org");
  CHECK(question->header("access-control-allow-methods") == "POST, OPTIONS");
  const auto refused = f.ask("POST", "/v1/slow", from);
  CHECK(refused->head.status == 401);
  // So that the page can read why.
  CHECK(
      refused->header("access-control-allow-origin") ==
      "https://chat.example.org");
  asking[0].second = "https://evil.org";
  const auto other = f.ask("OPTIONS", "/v1/slow", asking);
  CHECK(other->head.status == 403);
  CHECK(other->header("access-control-allow-origin").empty());
}

TEST_CASE("router: what can be refused without a body is") {
  ServerOptions options = default_options();
  options.api_key = "k";
  Fixture f(options);
  const auto refused = f.router.refuse_early(f.request("POST", "/v1/slow"));
  REQUIRE(refused);
  CHECK(refused->status == 401);
  CHECK(f.counted("/v1/slow", 401));
  const Headers key = {{"x-api-key", "k"}};
  CHECK(f.router.refuse_early(f.request("POST", "/no", key))->status == 404);
  CHECK(f.router.refuse_early(f.request("PUT", "/health", key))->status == 405);
  CHECK(!f.router.refuse_early(f.request("POST", "/v1/slow", key)));
  CHECK(f.counted("/v1/slow", 401));
}

TEST_CASE("router: what is no good request is told so in its dialect") {
  Fixture f;
  const HttpResponse large =
      f.router.explain(f.request("POST", "/v1/messages"), 413, "too large");
  CHECK(large.status == 413);
  CHECK(Json::parse(large.body)["error"]["type"] == "request_too_large");
  const HttpResponse bad = f.router.explain(HttpRequest{}, 431, "headers");
  CHECK(bad.status == 431);
  CHECK(Json::parse(bad.body)["error"]["message"] == "headers");
  CHECK(f.counted("/v1/messages", 413));
  CHECK(f.counted("other", 431));
}

TEST_CASE("router: a request has one line in the log, without its text") {
  Fixture f;
  const auto outcome = f.ask("POST", "/v1/messages");
  HttpResponse head;
  head.body = "one";
  f.kept->begin(head);
  f.kept->write("four");
  CHECK(f.logged.str().empty());
  f.kept->end();
  f.kept.reset();
  CHECK(outcome->body == "onefour");
  const std::string line = f.logged.str();
  CHECK(line.find("POST /v1/messages 200 7 bytes ") != std::string::npos);
  CHECK(line.find(" s req_1\n") != std::string::npos);
  CHECK(line.find('\n') == line.size() - 1);
  CHECK(line.find("SECRET") == std::string::npos);
  CHECK(f.counted("/v1/messages", 200));
}

TEST_CASE("router: what there is no room for is an error of the dialect") {
  Fixture f;
  const auto outcome = f.ask("POST", "/v1/messages");
  outcome->room = 500;
  HttpResponse large;
  large.body = std::string(501, 'a');
  f.kept->send(large);
  f.kept.reset();
  CHECK(outcome->head.status == 503);
  CHECK(outcome->header("retry-after") == "1");
  CHECK(outcome->json()["error"]["type"] == "overloaded_error");
  CHECK(f.counted("/v1/messages", 503));
}

TEST_CASE("router: what a client that is gone has sent is not read") {
  Fixture f;
  const auto outcome = f.ask("POST", "/v1/slow");
  REQUIRE(outcome->disconnect);
  outcome->disconnect(); // before a worker has time for it
  f.loop.run();
  CHECK(f.kept == nullptr);
  CHECK(!outcome->answered);
  CHECK(f.counted("/v1/slow", 499));
}

TEST_CASE("router: a body is kept until it was read, and no longer") {
  Fixture f;
  f.ask("POST", "/v1/slow");
  REQUIRE(f.kept == nullptr);
  f.loop.run();
  REQUIRE(f.kept != nullptr); // who answers later
  CHECK(f.bodies == std::vector<std::string>{"SECRET PROMPT"});
  CHECK(f.kept->request().body.empty());
  CHECK(f.kept->request().id == "req_1");
}

TEST_CASE("router: a client that goes is counted as gone") {
  Fixture f;
  const auto outcome = f.ask("POST", "/v1/messages");
  SUBCASE("before it was answered") {}
  SUBCASE("in the middle of its answer") {
    f.kept->begin({});
  }
  outcome->disconnect();
  f.kept.reset();
  CHECK(f.counted("/v1/messages", 499));
}

TEST_CASE("router: a client's method does not get into the log") {
  Fixture f;
  f.ask("EVIL", "/v1/messages");
  CHECK(f.logged.str().find("[request] ? /v1/messages") != std::string::npos);
  CHECK(f.logged.str().find("EVIL") == std::string::npos);
}

TEST_CASE("router: routes that are polled do not fill the log") {
  Fixture f;
  f.ask("GET", "/health");
  CHECK(f.logged.str().empty());
  CHECK(f.counted("/health", 200));
  log::set_level("debug");
  f.ask("GET", "/health");
  CHECK(f.logged.str().find("GET /health 200") != std::string::npos);
}
