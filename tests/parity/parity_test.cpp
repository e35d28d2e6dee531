// Every recorded model against what mlx-lm computed for it in float32 (see
// tests/data/parity): logits, greedy tokens and log-probabilities; with our
// kernels and with MLX's stock operations, resident and streamed.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>

#include "base/read_file.h"
#include "engine/engine_core.h"
#include "platform/temp_folder.h"
#include "tests/support/hex.h"

using namespace mlx_flash;
using Json = nlohmann::json;

namespace {

struct Golden {
  const char* name;
  double tolerance; // of logits, relative to the largest
};

constexpr double kFloatWeights = 2e-5;
constexpr double kQuantisedWeights = 2e-4;
const std::vector<Golden> kGoldens{
    {"f32", kFloatWeights},
    {"f32_per_expert", kFloatWeights},
    {"bf16", kFloatWeights},
    {"bf16_per_expert", kFloatWeights},
    {"f16", kFloatWeights},
    {"q4", kQuantisedWeights},
    {"q4_per_expert", kQuantisedWeights},
    {"q8_g32", kQuantisedWeights},
    {"mixed", kQuantisedWeights},
    {"mxfp4", kQuantisedWeights},
};

struct Setting {
  const char* name;
  bool mlx_ops;
  bool resident;
};
const std::vector<Setting> kSettings{
    {"our kernels, resident", false, true},
    {"our kernels, streamed", false, false},
    {"stock operations, resident", true, true},
    {"stock operations, streamed", true, false},
};

std::filesystem::path folder_of(const Golden& golden) {
  return std::filesystem::path(MLX_FLASH_TEST_DATA) / "parity" / golden.name;
}

std::unique_ptr<Engine> open(const Golden& golden, const Setting& setting) {
  EngineOptions options;
  options.model = folder_of(golden);
  options.memory = "1GB";
  options.context_tokens = 128;
  options.threads = 2;
  options.precision = "f32";
  options.resident = setting.resident;
  if (!setting.resident) {
    options.slots = make_plan(options).experts_per_token;
  }
  EngineSeams seams;
  seams.mlx_ops_on_cpu = setting.mlx_ops;
  return open_engine(options, seams);
}

double relative_error(
    std::span<const float> got,
    const std::vector<float>& expected) {
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(double{expected[i]}));
    error = std::max(error, std::abs(double{got[i]} - expected[i]));
  }
  return error / largest;
}

void check_prompt(Engine& engine, const Json& prompt, double tolerance) {
  const auto ids = prompt["ids"].get<std::vector<TokenId>>();
  CAPTURE(ids.size());
  const size_t vocab = engine.vocab_size();
  const auto logits = engine.new_session()->extend(ids);
  for (const Json& entry : prompt["logits"]) {
    const size_t position = entry["position"];
    CAPTURE(position);
    const double error = relative_error(
        std::span(logits).subspan(position * vocab, vocab),
        test::floats_from_hex(entry["values"]));
    CHECK(error <= tolerance);
  }
  GenerationOptions greedy;
  greedy.max_tokens = prompt["greedy_ids"].size();
  greedy.ignore_eos = true;
  const auto result = engine.new_session()->generate(ids, greedy);
  CHECK(result.tokens == prompt["greedy_ids"].get<std::vector<TokenId>>());
}

void check_score(Engine& engine, const Json& score) {
  const auto ids = score["ids"].get<std::vector<TokenId>>();
  const auto result = engine.new_session()->score(ids);
  const auto expected = score["logprobs"].get<std::vector<double>>();
  REQUIRE(result.logprobs.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(result.logprobs[i] == doctest::Approx(expected[i]).epsilon(1e-3));
  }
}

// A tied head of float32: [vocab, hidden].
std::vector<float> head_of(const std::filesystem::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const TensorInfo& info = checkpoint.get("model.embed_tokens.weight");
  const std::string file = read_file(checkpoint.files()[info.file]);
  std::vector<float> head(info.bytes / sizeof(float));
  std::memcpy(head.data(), file.data() + info.offset, info.bytes);
  return head;
}

std::vector<float> embed(Engine& engine, const std::vector<TokenId>& ids) {
  std::promise<std::vector<float>> promise;
  const auto session = engine.new_session();
  session->start_embedding(ids, [&](auto embedding, std::exception_ptr error) {
    CHECK(!error);
    promise.set_value(std::move(embedding));
  });
  return promise.get_future().get();
}

} // namespace

TEST_CASE(
    "invariant 5, exact by default: logits, tokens and scores are mlx-lm's") {
  for (const Golden& golden : kGoldens) {
    CAPTURE(golden.name);
    const Json goldens =
        Json::parse(read_file(folder_of(golden) / "goldens.json"));
    for (const Setting& setting : kSettings) {
      CAPTURE(setting.name);
      const auto engine = open(golden, setting);
      for (const Json& prompt : goldens["prompts"]) {
        check_prompt(*engine, prompt, golden.tolerance);
      }
      check_score(*engine, goldens["score"]);
    }
  }
}

TEST_CASE(
    "parity: a last token's embedding times the head is mlx-lm's logits") {
  const auto folder = folder_of({"f32", 0});
  const Json goldens = Json::parse(read_file(folder / "goldens.json"));
  const std::vector<float> head = head_of(folder);
  const TempFolder model;
  for (const auto& each : std::filesystem::directory_iterator(folder)) {
    std::filesystem::create_symlink(
        each.path(), model.path() / each.path().filename());
  }
  model.write("modules.json", R"([
      {"path": "", "type": "sentence_transformers.models.Transformer"},
      {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])");
  model.write("1_Pooling/config.json", R"({"pooling_mode": "lasttoken"})");
  EngineOptions options;
  options.model = model.path();
  options.memory = "1GB";
  options.context_tokens = 128;
  options.precision = "f32";
  const auto engine = Engine::open(options);
  for (const Json& prompt : goldens["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<TokenId>>();
    const std::vector<float> state = embed(*engine, ids);
    std::vector<float> logits;
    for (size_t row = 0; row < head.size(); row += state.size()) {
      double sum = 0;
      for (size_t i = 0; i < state.size(); ++i) {
        sum += double{head[row + i]} * state[i];
      }
      logits.push_back(static_cast<float>(sum));
    }
    const Json& last = prompt["logits"].back();
    REQUIRE(last["position"] == ids.size() - 1);
    CHECK(
        relative_error(logits, test::floats_from_hex(last["values"])) <=
        kFloatWeights);
  }
}

TEST_CASE("parity: every recorded model is tested") {
  size_t folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(MLX_FLASH_TEST_DATA) / "parity")) {
    folders += entry.is_directory();
  }
  CHECK(folders == kGoldens.size());
}

// The card's own vectors. Where the best two logits are closer than this,
// another order of summation may rightly choose the other.
TEST_CASE("parity: the demo model meets its goldens") {
  constexpr double kNearTie = 0.002;
  const std::filesystem::path folder =
      MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";
  const Json goldens = Json::parse(read_file(folder / "goldens.json"));
  EngineOptions options;
  options.model = folder;
  options.memory = "1GB";
  options.slots = 48;
  options.threads = 2;
  options.precision = "f32";
  const auto engine = Engine::open(options);
  const size_t vocab = engine->vocab_size();
  for (const Json& prompt : goldens["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<TokenId>>();
    CHECK(
        engine->text().encode(prompt["rendered"].get<std::string>(), false) ==
        ids);
    const Json& expected = prompt["fp32"];
    const auto logits = engine->new_session()->extend(ids);
    const auto last = std::span(logits).last(vocab);
    for (const Json& entry : expected["top5"]) {
      const double logit = last[entry[0].get<size_t>()];
      CHECK(logit == doctest::Approx(entry[1].get<double>()).epsilon(2e-4));
    }
    GenerationOptions greedy;
    greedy.max_tokens = 64;
    greedy.ignore_eos = true;
    const auto result = engine->new_session()->generate(ids, greedy);
    const auto tokens = expected["greedy_ids"].get<std::vector<TokenId>>();
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (expected["margin"][i].get<double>() < kNearTie) {
        break;
      }
      CAPTURE(i);
      CHECK(result.tokens[i] == tokens[i]);
    }
  }
}
