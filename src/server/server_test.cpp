#include "server/server.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/test_wait_for.h"
#include "mlx_flash/error.h"
#include "server/http/test_client.h"
#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

constexpr const char* kJson = "content-type: application/json\r\n";

// Ends before what it is about, as a program's main() would have it.
struct Fixture {
  explicit Fixture(
      const std::function<void(ServerOptions&)>& change = {},
      ScriptedSetup setup = {})
      : scripted(std::move(setup)) {
    ServerOptions options = scripted_options(scripted);
    options.port = 0;
    if (change) {
      change(options);
    }
    server = std::make_unique<Server>(std::move(options));
  }
  ~Fixture() {
    scripted.release_loading();
    scripted.release_steps();
    server.reset();
  }

  void start_ready() {
    server->start();
    REQUIRE(wait_for([&] { return status_of("/ready") == 200; }));
  }

  int status_of(const std::string& path) {
    TestClient client(server->port());
    client.get(path);
    return client.read_answer().status;
  }

  // A chat whose answer has begun, and cannot go on.
  std::unique_ptr<TestClient> begin_chat(bool stream) {
    auto client = std::make_unique<TestClient>(server->port());
    client->post(
        "/v1/chat/completions",
        std::string(R"({"model":"scripted","messages":[{"role":"user",)") +
            R"("content":"Hi"}],"stream":)" + (stream ? "true}" : "false}"),
        kJson);
    REQUIRE(wait_for([&] { return scripted.active() == 1; }));
    return client;
  }

  Scripted scripted;
  std::unique_ptr<Server> server;
};

std::string error_of(const std::function<void(ServerOptions&)>& change) {
  try {
    Fixture fixture(change);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

} // namespace

TEST_CASE("server: options that cannot be honoured are refused at the start") {
  CHECK(error_of({}).empty());
  const auto open_to_all = [](ServerOptions& options) {
    options.host = "0.0.0.0";
  };
  CHECK(error_of(open_to_all).find("--api-key") != std::string::npos);
  const auto without_model = [](ServerOptions& options) {
    options.models.clear();
  };
  CHECK(error_of(without_model).find("--model") != std::string::npos);
}

TEST_CASE("server: it does not start with two models of one name") {
  const auto same_folder = [](ServerOptions& options) {
    options.models[1].name = options.models[0].name;
  };
  const std::string error = error_of(same_folder);
  CHECK(error.find("'scripted'") != std::string::npos);
  CHECK(error.find("rename") != std::string::npos);
  const auto alias = [](ServerOptions& options) {
    options.models[0].aliases = {options.models[1].name};
  };
  CHECK(error_of(alias).find("--alias") != std::string::npos);
  const auto of_its_own = [](ServerOptions& options) {
    options.models[0].aliases = {options.models[0].name};
  };
  CHECK(error_of(of_its_own).empty());
}

TEST_CASE("server: it answers while its model is loaded") {
  Fixture f;
  f.scripted.hold_loading();
  f.server->start();
  CHECK(f.status_of("/health") == 200);
  CHECK(f.status_of("/ready") == 503);
  f.scripted.release_loading();
  CHECK(wait_for([&] { return f.status_of("/ready") == 200; }));
}

TEST_CASE("server: a chat is answered by the model") {
  Fixture f;
  f.start_ready();
  f.scripted.hold_steps();
  const auto client = f.begin_chat(false);
  f.scripted.release_steps();
  const TestAnswer answer = client->read_answer();
  CHECK(answer.status == 200);
  CHECK(answer.body.find("Hello!") != std::string::npos);
  CHECK(!answer.header("x-request-id").empty());
}

TEST_CASE("server: an answer ends when its client goes") {
  for (const bool stream : {false, true}) {
    CAPTURE(stream);
    Fixture f;
    f.start_ready();
    f.scripted.hold_steps();
    auto client = f.begin_chat(stream);
    client.reset();
    CHECK(wait_for([&] { return f.scripted.active() == 0; }));
  }
}

TEST_CASE("server: a key guards all but health and readiness") {
  Fixture f([](ServerOptions& options) { options.api_key = "secret"; });
  f.start_ready();
  CHECK(f.status_of("/health") == 200);
  CHECK(f.status_of("/metrics") == 401);
  TestClient client(f.server->port());
  client.get("/metrics", "authorization: Bearer secret\r\n");
  CHECK(client.read_answer().status == 200);
}

TEST_CASE("server: every dialect has its routes") {
  Fixture f;
  f.start_ready();
  for (const char* path :
       {"/v1/models", "/api/tags", "/status", "/metrics", "/v1/config"}) {
    CAPTURE(path);
    CHECK(f.status_of(path) == 200);
  }
  for (const char* path :
       {"/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/api/chat"}) {
    CAPTURE(path);
    CHECK(f.status_of(path) == 405);
  }
}

TEST_CASE("server: a drain lets an answer end, and then it is over") {
  Fixture f;
  f.start_ready();
  f.scripted.hold_steps();
  auto client = f.begin_chat(true);
  f.server->begin_drain();
  CHECK(wait_for([&] { return !TestClient(f.server->port()).connected(); }));
  f.scripted.release_steps();
  const TestAnswer answer = client->read_answer();
  CHECK(answer.status == 200);
  CHECK(answer.body.find("[DONE]") != std::string::npos);
  client.reset();
  f.server->wait();
}

TEST_CASE("server: what does not end in a drain's time is told so") {
  Fixture f([](ServerOptions& options) { options.limits.drain_seconds = 0.1; });
  f.start_ready();
  f.scripted.hold_steps();
  const auto client = f.begin_chat(false);
  f.server->begin_drain();
  const TestAnswer answer = client->read_answer();
  CHECK(answer.status == 503);
  CHECK(answer.body.find("stopping") != std::string::npos);
  f.server->wait();
}

TEST_CASE("server: it can be stopped at once, also in a drain") {
  Fixture f;
  f.start_ready();
  f.scripted.hold_steps();
  const auto client = f.begin_chat(true);
  SUBCASE("without one") {}
  SUBCASE("in one") {
    f.server->begin_drain();
  }
  f.server->stop_now();
  f.server->wait();
  client->read_rest();
  f.server.reset();
  CHECK(f.scripted.engines() == 0);
}

TEST_CASE("server: a request can end it as a signal does") {
  Fixture f;
  f.start_ready();
  {
    TestClient client(f.server->port());
    client.post("/shutdown", "{}", kJson);
    CHECK(client.read_answer().status < 300);
  }
  f.server->wait();
}

TEST_CASE("server: two of them cannot have the same port") {
  Fixture first;
  first.start_ready();
  Fixture second(
      [&](ServerOptions& options) { options.port = first.server->port(); });
  CHECK_THROWS_AS(second.server->start(), Error);
}
