#include "server/api/held_logprobs.h"

#include <doctest/doctest.h>

#include "server/api/routes.h"
#include "server/api/test_exchange.h"
#include "server/http/unsent_bytes.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

TEST_CASE("openai: log-probabilities without room end the answer, and say so") {
  GenerationsFixture server("Hello");
  ApiContext context{
      server.options,
      server.loop,
      server.workers,
      *server.models,
      *server.generations,
      server.metrics,
      {}};
  const std::vector<Route> chat = openai_chat_routes();
  const std::vector<Route> completions = openai_completions_routes();
  const std::vector<Route> responses = openai_responses_routes();
  const auto ask = [&](const std::vector<Route>& routes,
                       const std::string& body,
                       uint64_t room) {
    const auto exchange = std::make_shared<TestExchange>(body);
    exchange->room = room * 2; // of which each token has one beside itself
    routes.at(0).handle(context, exchange, "");
    REQUIRE(server.until([&] { return exchange->ended; }));
    CHECK(exchange->protocol_errors == 0);
    CHECK(server.is_idle());
    return exchange;
  };
  constexpr uint64_t kText = HeldLogprobs::kAsText;
  constexpr uint64_t kValues = HeldLogprobs::kAsValues;
  const std::string one = R"({"messages": [{"role": "user", "content": "Hi"}],
      "logprobs": true, "top_logprobs": 1})";
  CHECK(ask(chat, one, 5 * kText)->head.status == 200);
  CHECK(ask(chat, one, 4 * kText)->head.status == 503);
  const std::string echo =
      R"({"prompt": "abcdef", "echo": true, "logprobs": 1)";
  // "stream" writes what comes, so that the prompt is the most at once.
  CHECK(ask(completions, echo + "}", 11 * kText)->head.status == 200);
  CHECK(ask(completions, echo + "}", 10 * kText)->head.status == 503);
  const std::string stream = echo + R"(, "stream": true})";
  CHECK(ask(completions, stream, 6 * kText)->head.status == 200);
  CHECK(ask(completions, stream, 5 * kText)->head.status == 503);
  const std::string response = R"({"input": "Hi", "top_logprobs": 1})";
  CHECK(ask(responses, response, 5 * kValues)->head.status == 200);
  CHECK(ask(responses, response, 4 * kValues)->head.status == 503);
}

TEST_CASE("openai: a prompt is scored where there is room for its scores") {
  GenerationsFixture server("Hello");
  ApiContext context{
      server.options,
      server.loop,
      server.workers,
      *server.models,
      *server.generations,
      server.metrics,
      {}};
  const Route route = openai_completions_routes().at(0);
  server.scripted.hold_steps();
  const auto ask = [&](const char* more) {
    const auto exchange = std::make_shared<TestExchange>(
        std::string(R"({"prompt": "abcdef", "echo": true, "logprobs": 1)") +
        more + "}");
    exchange->room = 6 * 2 * HeldLogprobs::kAsText;
    route.handle(context, exchange, "");
    return exchange;
  };
  const auto whole = ask("");
  REQUIRE(server.until([&] { return server.scripted.sessions() == 1; }));
  CHECK(whole->held == whole->room);
  for (const char* more : {R"(, "n": 2)", R"(, "n": 2, "stream": true)"}) {
    CAPTURE(more);
    const auto exchange = ask(more);
    REQUIRE(server.until([&] { return exchange->ended; })); // without a step
    CHECK(exchange->head.status == 503);
  }
  whole->disconnect();
  CHECK(server.is_idle());
}

TEST_CASE("held log-probabilities: what was expected counts once") {
  const auto exchange = std::make_shared<TestExchange>();
  HeldLogprobs held(exchange, 10);
  held.expect(3, 1);
  CHECK(exchange->held == 60);
  held.add(std::vector<TokenText>{{1, "a", -1, {{2, "b"}}}, {1, "a"}});
  CHECK(exchange->held == 60);
  held.clear();
  CHECK(exchange->held == 30); // that are still to come
  held.add(std::vector<TokenText>(5));
  CHECK(exchange->held == 50);
}

TEST_CASE(
    "held log-probabilities: by default a long prompt has room for them") {
  const UnsentBytes unsent{ServerLimits{}};
  constexpr uint64_t kEach = (1 + 5) * HeldLogprobs::kAsText;
  CHECK(unsent.has_room_for(8192 * kEach, 0));
  CHECK(!unsent.has_room_for(16384 * kEach, 0));
}
