// Requests for embeddings, from the job to the end, with a scripted engine.
#include <doctest/doctest.h>

#include <algorithm>

#include "server/embedding_inputs.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

class Sink : public EmbeddingSink {
 public:
  std::vector<std::vector<float>> embeddings;
  size_t heard = 0;
  std::optional<EmbeddingsEnd> end;
  std::optional<ApiError> error;
  std::function<void()> at_embedding = [] {};

  bool over() const {
    return end || error;
  }

  void on_embedding(size_t input, std::span<const float> values) override {
    CHECK(!over());
    embeddings.resize(std::max(embeddings.size(), input + 1));
    CHECK(embeddings[input].empty());
    embeddings[input].assign(values.begin(), values.end());
    ++heard;
    at_embedding();
  }
  void on_end(const EmbeddingsEnd& what) override {
    CHECK(!over());
    end = what;
  }
  void on_error(const ApiError& what) override {
    CHECK(!over());
    error = what;
  }
};

class Fixture : public GenerationsFixture {
 public:
  explicit Fixture(
      const std::function<void(ServerOptions&)>& change = {},
      ScriptedSetup setup = {})
      : GenerationsFixture(std::move(setup), [&](ServerOptions& options_) {
          options_.models[0].embedding = scripted_form();
          if (change) {
            change(options_);
          }
        }) {}

  struct Begun {
    std::shared_ptr<Sink> sink = std::make_shared<Sink>();
    std::shared_ptr<Generation> run{};
    const Sink* operator->() const {
      return sink.get();
    }
  };
  Begun begin(EmbeddingJob job) {
    Begun begun;
    begun.run = generations->embed(std::move(job), now_seconds(), begun.sink);
    return begun;
  }
  Begun embed(EmbeddingJob job) {
    const Begun begun = begin(std::move(job));
    REQUIRE(until([&] { return begun->over(); }));
    return begun;
  }
};

EmbeddingJob texts(size_t count) {
  EmbeddingJob job;
  job.request_id = "r1";
  for (size_t i = 0; i < count; ++i) {
    job.inputs.push_back("text " + std::to_string(i));
  }
  return job;
}

std::vector<float> expected(size_t text) {
  const auto tokens =
      ScriptedText().encode("text " + std::to_string(text), true);
  return scripted_embedding(tokens);
}

void few_at_once(ServerOptions& options) {
  options.limits.parallel = 2;
  options.limits.queue = 2;
}

} // namespace

TEST_CASE("embeddings: one for each text, and how many tokens that were") {
  Fixture f;
  const auto done = f.embed(texts(30));
  REQUIRE(done->end);
  REQUIRE(done->heard == 30);
  for (size_t i = 0; i < 30; ++i) {
    CHECK(done->embeddings[i] == expected(i));
  }
  CHECK(done->end->model == "scripted");
  CHECK(done->end->prompt_tokens == 10 * 6 + 20 * 7);
  CHECK(done->end->timings.total_seconds > 0);
  CHECK(f.is_idle());
  CHECK(f.metrics.totals().answers == 1);
  CHECK(f.metrics.totals().prompt_tokens == 200);
}

TEST_CASE("embeddings: some texts at a time, so that others find room") {
  Fixture f;
  f.scripted.hold_steps();
  const auto many = f.begin(texts(30));
  REQUIRE(f.until([&] { return f.scripted.active() == 8; }));
  CHECK(f.scripted.sessions() == 8);
  CHECK(f.state_of_first() == "prompt");
  CHECK(f.generations->list()[0].progress.prompt_tokens == 200);
  f.step(2);
  CHECK(f.generations->list()[0].progress.prompt_read == 8 * 6);
  REQUIRE(f.until([&] { return f.scripted.active() == 8; }));
  CHECK(f.scripted.sessions() == 8);
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return many->over(); }));
  CHECK(many->heard == 30);
  CHECK(f.is_idle());
}

TEST_CASE("embeddings: those beyond the queue are turned away") {
  Fixture f(few_at_once);
  f.scripted.hold_steps();
  const auto first = f.begin(texts(5)); // as two answers
  const auto second = f.start(prompt_of(3));
  try {
    f.begin(texts(2));
    FAIL("taken");
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::rate_limited);
    CHECK(error.retry_after_seconds);
  }
  const auto third = f.begin(texts(1));
  CHECK_THROWS_AS(f.start(prompt_of(3)), ApiError);
  f.scripted.release_steps();
  REQUIRE(f.until(
      [&] { return first->over() && second->over() && third->over(); }));
  CHECK(first->heard == 5);
  CHECK(f.is_idle());
  CHECK(f.embed(texts(2))->end);
}

TEST_CASE("embeddings: no more are kept than there is memory for") {
  Fixture f(
      [](ServerOptions& options) { options.limits.embedding_inputs = 10; });
  CHECK(most_embeddings(f.options.limits) == 40);
  CHECK(embeddings_bytes(f.options.limits, scripted_form()) == 40 * 4 * 16);
  CHECK(embeddings_bytes(f.options.limits, {}) == 0);
  f.scripted.hold_steps();
  std::vector<Fixture::Begun> begun;
  for (int i = 0; i < 4; ++i) {
    begun.push_back(f.begin(texts(10)));
  }
  CHECK_THROWS_WITH_AS(
      f.begin(texts(1)), doctest::Contains("40 texts"), ApiError);
  f.scripted.release_steps();
  REQUIRE(f.until([&] {
    return std::all_of(begun.begin(), begun.end(), [](const auto& each) {
      return each->over();
    });
  }));
  CHECK(f.embed(texts(10))->end);
}

TEST_CASE("embeddings: a client that goes away ends them") {
  Fixture f;
  f.scripted.hold_steps();
  const auto begun = f.begin(texts(20));
  REQUIRE(f.until([&] { return f.scripted.active() == 8; }));
  begun.run->cancel();
  CHECK(f.is_idle());
  CHECK(begun->heard == 0);
  CHECK(!begun->over());
  CHECK(f.metrics.totals().cancelled == 1);
  f.scripted.release_steps();
  Fixture::Begun other = f.begin(texts(20));
  other.sink->at_embedding = [&] { other.run->cancel(); };
  CHECK(f.is_idle());
  CHECK(other->heard == 1);
}

TEST_CASE("embeddings: a model without is refused before it is loaded") {
  Fixture f;
  REQUIRE(f.embed(texts(1))->end);
  EmbeddingJob job = texts(1);
  job.model = "other";
  const auto refused = f.embed(std::move(job));
  REQUIRE(refused->error);
  CHECK(refused->error->param == "model");
  CHECK(f.scripted.opened() == 1);
  CHECK(f.is_idle());
}

TEST_CASE(
    "embeddings: a model that nobody names is looked at once it is there") {
  Fixture f([](ServerOptions& options) { options.models[0].embedding = {}; });
  const auto refused = f.embed(texts(1));
  REQUIRE(refused->error);
  CHECK(refused->error->kind() == ApiErrorKind::invalid_request);
  CHECK(f.is_idle());
}

TEST_CASE("embeddings: a text that is wrong is named, and nothing is read") {
  Fixture f;
  EmbeddingJob job = texts(3);
  job.inputs[2] = "";
  const auto refused = f.embed(std::move(job));
  REQUIRE(refused->error);
  CHECK(refused->error->param == "input[2]");
  CHECK(refused->heard == 0);
  CHECK(f.scripted.requests().empty());
  CHECK(f.is_idle());
}

TEST_CASE("embeddings: an engine's error ends the request and no other") {
  ScriptedSetup setup;
  setup.script = [](const ScriptedRequest& request) -> ScriptedAnswer {
    ScriptedAnswer answer = "x";
    if (request.prompt == "text 5") {
      answer.fails_at = 0;
      answer.code = ErrorCode::io;
    }
    return answer;
  };
  Fixture f({}, setup);
  const auto failed = f.embed(texts(9));
  REQUIRE(failed->error);
  CHECK(failed->error->kind() == ApiErrorKind::internal);
  CHECK(f.is_idle());
  CHECK(f.metrics.totals().failed == 1);
  CHECK(f.embed(texts(5))->end);
}

TEST_CASE("embeddings: they end with the server, and with their time") {
  Fixture f([](ServerOptions& options) { options.limits.request_seconds = 5; });
  f.scripted.hold_steps();
  const auto stopped = f.begin(texts(3));
  REQUIRE(f.until([&] { return f.scripted.active() == 3; }));
  f.generations->cancel_all();
  REQUIRE(f.until([&] { return stopped->over(); }));
  CHECK(stopped->error->kind() == ApiErrorKind::unavailable);
  const auto late = f.begin(texts(3));
  REQUIRE(f.until([&] { return f.scripted.active() == 3; }));
  f.loop.advance(6);
  REQUIRE(late->error);
  CHECK(late->error->kind() == ApiErrorKind::timeout);
  CHECK(f.is_idle());
}

TEST_CASE("embeddings: too many texts for the workers are turned away") {
  Fixture f;
  f.workers.refuse = true;
  const auto refused = f.embed(texts(1));
  REQUIRE(refused->error);
  CHECK(refused->error->kind() == ApiErrorKind::rate_limited);
  CHECK(f.is_idle());
}

TEST_CASE("embeddings: a request says how long the model stays") {
  Fixture f;
  EmbeddingJob job = texts(1);
  job.keep_seconds = 0;
  CHECK(f.embed(std::move(job))->end);
  CHECK(f.until([&] {
    return f.models->status().state == ModelStatus::State::released;
  }));
}
