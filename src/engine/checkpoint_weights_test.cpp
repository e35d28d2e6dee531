// Loading from folders that are not what they say.
#include "engine/checkpoint_weights.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/read_file.h"
#include "mlx_flash/engine.h"
#include "platform/temp_folder.h"
#include "storage/memory_reader.h"

using namespace mlx_flash;
using Json = nlohmann::json;

namespace {

const std::filesystem::path kParity = MLX_FLASH_TEST_DATA "/parity";

// A model of the tests' data, opened for loading.
struct Loading {
  Checkpoint checkpoint;
  ExpertLayout layout;
  std::unique_ptr<Reader> reader;
  MemoryBudget budget;
  CheckpointWeights weights;

  Loading(const char* model, uint64_t budget_bytes)
      : checkpoint(Checkpoint::open(kParity / model)),
        layout(checkpoint),
        reader(MemoryReader::load(checkpoint.files(), FaultPlan{})),
        budget(budget_bytes),
        weights(checkpoint, layout, *reader, nullptr, budget) {}
};

// The model's weights beside one more tensor, and its config, changed.
void write_copy(
    const TempFolder& folder,
    const std::filesystem::path& model,
    const std::string& extra_tensor,
    const Json& config) {
  Json map;
  const Checkpoint original = Checkpoint::open(model);
  for (const auto& tensor : original.tensors()) {
    map[tensor.name] = "a.safetensors";
  }
  std::filesystem::create_symlink(
      model / "model.safetensors", folder.path() / "a.safetensors");
  if (!extra_tensor.empty()) {
    map[extra_tensor] = "b.safetensors";
    Json entry{{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {0, 8}}};
    const std::string header = Json{{extra_tensor, entry}}.dump();
    std::string file(8, '\0');
    const uint64_t bytes = header.size();
    std::memcpy(file.data(), &bytes, 8);
    folder.write("b.safetensors", file + header + std::string(8, '\0'));
  }
  folder.write(
      "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  folder.write("config.json", config.dump());
}

std::vector<float> logits(const std::filesystem::path& model) {
  EngineOptions options;
  options.model = model;
  options.memory = "200MB";
  options.threads = 1;
  const auto engine = Engine::open(options);
  return engine->new_session()->extend(std::vector<TokenId>{1, 2, 3, 4, 5});
}

} // namespace

TEST_CASE("weights: memory is charged before it is allocated") {
  Loading small("f32", 1000);
  CHECK_THROWS_WITH_AS(
      small.weights.vector("model.norm.weight", 64 * 1000),
      doctest::Contains("shape"),
      Error);
  const auto& norm = small.checkpoint.get("model.norm.weight");
  const auto embedding = small.checkpoint.get("model.embed_tokens.weight");
  CHECK(small.weights.vector(norm.name, norm.shape[0]).size() > 0);
  CHECK_THROWS_WITH_AS(
      small.weights.linear(
          "model.embed_tokens", embedding.shape[0], embedding.shape[1]),
      doctest::Contains("dense_weights needs"),
      Error);
  small.weights.finish();
  const auto charges = small.weights.take_charges();
  CHECK(
      small.budget.used_bytes(Account::dense_weights) ==
      4 * static_cast<uint64_t>(norm.shape[0]));
}

TEST_CASE("weights: dense ones lie side by side") {
  Loading loading("q4", 1 << 30);
  const std::byte* end = nullptr;
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    CAPTURE(name);
    const std::string module = fmt::format("model.layers.0.self_attn.{}", name);
    const auto& shape = loading.checkpoint.get(module + ".weight").shape;
    const auto& memory =
        loading.weights.linear(module, shape[0], shape[1] * 8).memory;
    if (end) {
      CHECK(memory.data() >= end);
      CHECK(memory.data() < end + 64);
    }
    end = memory.data() + memory.span().size() + ops::DeviceBuffer::kTailBytes;
  }
  loading.weights.finish();
}

TEST_CASE("weights: a width that the groups do not divide is refused") {
  Loading loading("q4", 1 << 30);
  const auto shape = loading.checkpoint.get("model.embed_tokens.weight").shape;
  CHECK_THROWS_WITH_AS(
      loading.weights.linear("model.embed_tokens", shape[0], shape[1] * 8 + 2),
      doctest::Contains("do not divide"),
      Error);
}

TEST_CASE("weights: tensors that would be left out are refused") {
  const auto model = kParity / "bf16";
  const Json config = Json::parse(read_file(model / "config.json"));
  const auto expected = logits(model);
  for (const char* name :
       {"model.layers.0.self_attn.q_proj.bias",
        "visual.patch.weight",
        "lm_head.bias"}) {
    CAPTURE(name);
    TempFolder folder;
    write_copy(folder, model, name, config);
    CHECK_THROWS_WITH_AS(logits(folder.path()), doctest::Contains(name), Error);
  }
  TempFolder folder;
  write_copy(
      folder, model, "model.layers.0.self_attn.rotary_emb.inv_freq", config);
  CHECK(logits(folder.path()) == expected);
}

TEST_CASE("config: RoPE's base counts wherever transformers writes it") {
  const auto model = kParity / "bf16";
  Json config = Json::parse(read_file(model / "config.json"));
  const auto expected = logits(model);
  REQUIRE(config["rope_theta"] == 1e6);
  config.erase("rope_theta");
  TempFolder without;
  write_copy(without, model, "", config);
  CHECK(logits(without.path()) != expected);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    Json changed = config;
    changed[key] = {{"rope_theta", 1e6}, {"rope_type", "default"}};
    TempFolder inside;
    write_copy(inside, model, "", changed);
    CHECK(logits(inside.path()) == expected);
  }
}
