// Clients of all routes that go while they wait for a model.
#include <doctest/doctest.h>

#include <string>

#include "server/api/routes.h"
#include "server/api/test_exchange.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

struct Question {
  std::vector<Route> (*routes)();
  const char* path;
  const char* body; // about the model that is not loaded
};

std::shared_ptr<TestExchange> ask(ApiContext& context, const Question& what) {
  for (const Route& route : what.routes()) {
    if (route.path == what.path && route.method == "POST") {
      auto exchange = std::make_shared<TestExchange>(what.body);
      route.handle(context, exchange, "");
      return exchange;
    }
  }
  FAIL("there is no " << what.path);
  return nullptr;
}

const Question kQuestions[] = {
    {openai_chat_routes,
     "/v1/chat/completions",
     R"({"model": "other", "messages": [{"role": "user", "content": "Hi"}]})"},
    {openai_models_routes,
     "/v1/embeddings",
     R"({"model": "other", "input": "Hi"})"},
    {own_routes, "/tokenize", R"({"model": "other", "content": "Hi"})"},
    {own_routes, "/detokenize", R"({"model": "other", "tokens": [72]})"},
    {own_routes,
     "/apply-template",
     R"({"model": "other", "messages": [{"role": "user", "content": "Hi"}]})"},
    {own_routes, "/v1/models/switch", R"({"model": "other"})"},
    {own_routes, "/hints", R"({"model": "other", "prompt": "Hi"})"},
    {anthropic_routes,
     "/v1/messages/count_tokens",
     R"({"model": "other", "messages": [{"role": "user", "content": "Hi"}]})"},
    {ollama_routes, "/api/generate", R"({"model": "other"})"},
    {ollama_routes, "/api/embed", R"({"model": "other", "input": []})"},
    // What this model can do has to be known first.
    {ollama_routes,
     "/api/chat",
     R"({"model": "other", "think": true,
         "messages": [{"role": "user", "content": "Hi"}]})"},
};

} // namespace

TEST_CASE("no model is loaded for a client that went while it waited") {
  for (const Question& question : kQuestions) {
    INFO(question.path);
    GenerationsFixture f("", [](ServerOptions& options) {
      options.keep_alive_seconds = 0;
      options.models[1].embedding = scripted_form();
    });
    ApiContext context{
        f.options, f.loop, f.workers, *f.models, *f.generations, f.metrics, {}};
    std::shared_ptr<ModelLease> user;
    (void)f.models->acquire(
        "scripted", [&](auto lease) { user = std::move(lease); }, {});
    REQUIRE(f.until([&] { return user != nullptr; }));

    const auto exchange = ask(context, question);
    f.loop.run();
    CHECK(!exchange->begun);
    REQUIRE(exchange->disconnect);
    exchange->disconnect();
    f.loop.run();
    user.reset();
    CHECK(f.models->status().state == ModelStatus::State::ready);
    CHECK(f.is_idle());
    CHECK(f.scripted.opened() == 1);
    CHECK(f.models->status().name == "scripted");
    CHECK(!exchange->begun);
  }
}
