// Embeddings of the demo model's weights, whatever its folder states of them.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <future>
#include <string>

#include "base/error.h"
#include "engine/test_answers.h"
#include "engine/test_demo.h"
#include "engine/test_listener.h"
#include "mlx_flash/engine.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

namespace fs = std::filesystem;
using Vector = std::vector<float>;

constexpr const char* kLast = R"({"pooling_mode_lasttoken": true,
    "pooling_mode_mean_tokens": false, "word_embedding_dimension": 256})";
constexpr const char* kMean = R"({"pooling_mode": "mean"})";
constexpr const char* kFirst = R"({"pooling_mode": "cls"})";

// The demo model with files of sentence-transformers beside its own.
class EmbeddingModel {
 public:
  explicit EmbeddingModel(const std::string& pooling, bool normalize = false) {
    for (const char* name :
         {"config.json",
          "generation_config.json",
          "model.safetensors",
          "model.safetensors.index.json",
          "tokenizer.json",
          "tokenizer_config.json"}) {
      fs::create_symlink(kDemoModel / name, folder_.path() / name);
    }
    const auto module = [](const char* type, const char* path) {
      return fmt::format(
          R"({{"path": "{}", "type": "sentence_transformers.models.{}"}})",
          path,
          type);
    };
    write(
        "modules.json",
        fmt::format(
            "[{}, {}{}]",
            module("Transformer", ""),
            module("Pooling", "1_Pooling"),
            normalize ? ", " + module("Normalize", "2_Normalize") : ""));
    write("1_Pooling/config.json", pooling);
  }

  void write(const char* name, const std::string& text) const {
    folder_.write(name, text);
  }
  const fs::path& path() const {
    return folder_.path();
  }
  EmbeddingForm form() const {
    return read_embedding_form(path());
  }

  EngineOptions options() const {
    EngineOptions options = demo_options(24, 512);
    options.model = path();
    return options;
  }
  std::unique_ptr<Engine> open() const {
    return Engine::open(options());
  }

 private:
  TempFolder folder_;
};

std::future<Vector> begin(Session& session, std::vector<TokenId> tokens) {
  const auto promise = std::make_shared<std::promise<Vector>>();
  session.start_embedding(
      std::move(tokens), [promise](Vector embedding, std::exception_ptr error) {
        if (error) {
          promise->set_exception(error);
        } else {
          promise->set_value(std::move(embedding));
        }
      });
  return promise->get_future();
}

Vector embed(Engine& engine, std::vector<TokenId> tokens) {
  const auto session = engine.new_session();
  return begin(*session, std::move(tokens)).get();
}

std::vector<TokenId> prefix(const std::vector<TokenId>& tokens, size_t n) {
  return {tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n)};
}

const std::vector<TokenId> kText = some_tokens(11, 150);

// Of the KV cache, in a step of a short answer that has one.
uint64_t pages_of_others(Engine& engine) {
  engine.new_session()->generate(prefix(kText, 2), explained(1));
  return engine.stats().kv_pages_used - 1;
}

// What `change` changes nothing about.
void check_bits(
    const EmbeddingModel& model,
    const Vector& expected,
    const std::function<void(EngineOptions&)>& change) {
  EngineOptions options = model.options();
  change(options);
  const auto engine = Engine::open(options);
  CHECK(embed(*engine, kText) == expected);
}

} // namespace

TEST_CASE("embedding: what a checkpoint states is known without loading it") {
  const auto last = EmbeddingModel(kLast, true).form();
  CHECK(last.pooling == Pooling::last);
  CHECK(last.normalized);
  CHECK(last.dimensions == 256);
  CHECK(last.why_none.empty());
  const auto mean = EmbeddingModel(kMean).form();
  CHECK(mean.pooling == Pooling::mean);
  CHECK(!mean.normalized);
}

TEST_CASE("embedding: a model that states none is refused by name") {
  const auto form = read_embedding_form(kDemoModel);
  CHECK(form.pooling == Pooling::none);
  CHECK(form.why_none.find("modules.json") != std::string::npos);
  const auto engine = Engine::open(demo_options(24, 192));
  const auto session = engine->new_session();
  CHECK_THROWS_WITH_AS(
      begin(*session, kText).get(), doctest::Contains("modules.json"), Error);
  CHECK(session->generate(prefix(kText, 4), explained(3)).tokens.size() == 3);
}

TEST_CASE("embedding: what cannot be honoured is refused; answers go on") {
  const auto check_refused = [](const EmbeddingModel& model, const char* why) {
    const auto form = model.form();
    INFO(form.why_none);
    CHECK(form.pooling == Pooling::none);
    CHECK(form.why_none.find(why) != std::string::npos);
    CHECK(form.why_none.find(model.path().string()) == std::string::npos);
    const auto engine = model.open();
    CHECK_THROWS_WITH_AS(embed(*engine, kText), doctest::Contains(why), Error);
    CHECK(
        engine->new_session()
            ->generate(prefix(kText, 4), explained(3))
            .tokens.size() == 3);
  };
  check_refused(EmbeddingModel(R"({"pooling_mode": "max"})"), "'max'");
  check_refused(EmbeddingModel("not JSON"), "1_Pooling");
  EmbeddingModel model(kMean);
  fs::remove(model.path() / "1_Pooling/config.json");
  check_refused(model, "1_Pooling/config.json");
  fs::create_directory(model.path() / "1_Pooling/config.json");
  check_refused(model, "1_Pooling/config.json");
  model.write("modules.json", "[");
  check_refused(model, "modules.json");
  EmbeddingModel normalized(kMean, true);
  normalized.write(
      "2_Normalize/config.json",
      R"({"module_input_name": "token_embeddings"})");
  check_refused(normalized, "token_embeddings");
}

TEST_CASE("embedding: a folder without a model has none") {
  const TempFolder empty;
  CHECK(
      read_embedding_form(empty.path()).why_none.find("config.json") !=
      std::string::npos);
  CHECK(read_embedding_form("/nowhere").pooling == Pooling::none);
}

TEST_CASE("embedding: first and mean are made of the states of the last") {
  const auto last = EmbeddingModel(kLast).open();
  std::vector<double> sum(256);
  for (size_t n = 1; n <= 20; ++n) {
    const Vector state = embed(*last, prefix(kText, n));
    REQUIRE(state.size() == sum.size());
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += double{state[i]};
    }
  }
  Vector mean;
  for (const double each : sum) {
    mean.push_back(static_cast<float>(each / 20));
  }
  CHECK(embed(*EmbeddingModel(kMean).open(), prefix(kText, 20)) == mean);
  CHECK(
      embed(*EmbeddingModel(kFirst).open(), kText) ==
      embed(*last, prefix(kText, 1)));
}

TEST_CASE("embedding: normalised it has length 1 and the same direction") {
  const Vector plain = embed(*EmbeddingModel(kMean).open(), kText);
  const Vector unit = embed(*EmbeddingModel(kMean, true).open(), kText);
  double plain_squares = 0;
  double unit_squares = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    plain_squares += double{plain[i]} * plain[i];
    unit_squares += double{unit[i]} * unit[i];
  }
  CHECK(std::sqrt(unit_squares) == doctest::Approx(1).epsilon(1e-6));
  const double length = std::sqrt(plain_squares);
  CHECK(length > 2);
  for (size_t i = 0; i < plain.size(); ++i) {
    CHECK(unit[i] * length == doctest::Approx(plain[i]).epsilon(1e-4));
  }
}

TEST_CASE("embedding: the same bits for any chunk, slots and threads") {
  for (const char* pooling : {kLast, kMean}) {
    CAPTURE(pooling);
    const EmbeddingModel model(pooling, true);
    const Vector expected = embed(*model.open(), kText);
    for (const uint64_t chunk : {1, 7, 64, 150}) {
      CAPTURE(chunk);
      check_bits(model, expected, [&](EngineOptions& options) {
        options.prefill_chunk = chunk;
        options.threads = 1 + static_cast<int>(chunk % 2);
      });
    }
    check_bits(model, expected, [](EngineOptions& options) {
      options.slots.reset();
      options.resident = true;
    });
    check_bits(model, expected, [](EngineOptions& options) {
      options.slots = 4;
      options.policy = "lru";
    });
  }
}

TEST_CASE("embedding: the same bits alone and in company") {
  const EmbeddingModel model(kMean, true);
  EngineOptions options = model.options();
  options.context_tokens = 1024;
  options.prefill_chunk = 48;
  options.prefix_cache = true;
  const auto engine = Engine::open(options);
  std::vector<std::vector<TokenId>> texts;
  std::vector<Vector> alone;
  for (size_t n : {150, 3, 77, 1, 149}) {
    texts.push_back(prefix(kText, n));
    alone.push_back(embed(*engine, texts.back()));
  }
  const auto generation = explained(60);
  Answer before(*engine, some_tokens(5, 90), generation);
  before.listener->wait_for_tokens(1);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::future<Vector>> together;
  for (const auto& text : texts) {
    sessions.push_back(engine->new_session());
    together.push_back(begin(*sessions.back(), text));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    CHECK(together[i].get() == alone[i]);
  }
  before.listener->wait_for_end();
  CHECK(bits(*before.listener) == ::alone(some_tokens(5, 90), generation));
}

TEST_CASE("embedding: a session is empty again, and can make the next one") {
  const auto engine = EmbeddingModel(kMean).open();
  const auto session = engine->new_session();
  const Vector first = begin(*session, kText).get();
  CHECK(session->length() == 0);
  CHECK(begin(*session, prefix(kText, 9)).get() != first);
  CHECK(begin(*session, kText).get() == first);
  CHECK(pages_of_others(*engine) == 0);
}

TEST_CASE("embedding: nothing is taken from the prefix cache or left there") {
  const EmbeddingModel model(kMean);
  const Vector expected = embed(*model.open(), kText);
  EngineOptions options = model.options();
  options.prefix_cache = true;
  const auto engine = Engine::open(options);
  Answer(*engine, kText, explained(2)).listener->wait_for_end();
  pages_of_others(*engine);
  const uint64_t kept = engine->stats().kv_pages_kept;
  CHECK(kept == 2);
  CHECK(embed(*engine, kText) == expected);
  embed(*engine, some_tokens(12, 150));
  pages_of_others(*engine);
  CHECK(engine->stats().cached_tokens == 0);
  CHECK(engine->stats().kv_pages_kept == kept);
}

TEST_CASE("embedding: what is wrong with a call is told at its end") {
  const auto engine = EmbeddingModel(kMean).open();
  const auto session = engine->new_session();
  const auto refused = [&](std::vector<TokenId> tokens, const char* why) {
    CHECK_THROWS_WITH_AS(
        begin(*session, std::move(tokens)).get(),
        doctest::Contains(why),
        Error);
    CHECK(session->length() == 0);
  };
  refused({}, "empty");
  refused({4096}, "4096");
  refused(some_tokens(1, 513), "--ctx");
  session->extend(prefix(kText, 3));
  CHECK_THROWS_WITH_AS(
      begin(*session, kText).get(), doctest::Contains("3 tokens"), Error);
  CHECK(session->length() == 3);
}

TEST_CASE("embedding: it can be cancelled, by its session's end too") {
  const EmbeddingModel model(kMean);
  EngineOptions options = model.options();
  options.prefill_chunk = 1;
  auto engine = Engine::open(options);
  const auto check_cancelled = [](std::future<Vector> future) {
    try {
      future.get();
      FAIL("came to its end");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::cancelled);
    }
  };
  auto session = engine->new_session();
  session->cancel(); // the next call
  check_cancelled(begin(*session, kText));
  auto running = begin(*session, some_tokens(3, 500));
  CHECK_THROWS_WITH_AS(
      begin(*session, kText), doctest::Contains("busy"), Error);
  session->cancel();
  check_cancelled(std::move(running));
  CHECK(session->length() == 0);
  running = begin(*session, some_tokens(3, 500));
  session.reset();
  check_cancelled(std::move(running));
  CHECK(embed(*engine, prefix(kText, 2)).size() == 256);
  CHECK(pages_of_others(*engine) == 0);
  session = engine->new_session();
  running = begin(*session, some_tokens(3, 500));
  engine.reset();
  check_cancelled(std::move(running));
}

TEST_CASE("embedding: those that find no room wait for it") {
  const EmbeddingModel model(kLast, true);
  const Vector expected = embed(*model.open(), kText);
  EngineOptions options = model.options();
  options.context_tokens = 192;
  options.parallel = 2;
  const auto engine = Engine::open(options);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::future<Vector>> all;
  for (int i = 0; i < 6; ++i) {
    sessions.push_back(engine->new_session());
    all.push_back(begin(*sessions.back(), kText));
  }
  for (auto& each : all) {
    CHECK(each.get() == expected);
  }
}

TEST_CASE("embedding: the plan has room for those that are made at once") {
  const EmbeddingModel model(kMean);
  const auto planned = [](EngineOptions options, uint64_t parallel) {
    options.parallel = parallel;
    return make_plan(options).planned_bytes;
  };
  EngineOptions without = demo_options(24, 512);
  CHECK(planned(without, 2) == planned(without, 10));
  const uint64_t two = planned(model.options(), 2);
  CHECK(planned(model.options(), 10) - two == 8 * 12 * 256);
}
