// Loading from folders that are not what they say.
#include "engine/checkpoint_weights.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/read_file.h"
#include "base/test_wait_for.h"
#include "mlx_flash/engine.h"
#include "platform/large_pages.h"
#include "platform/temp_folder.h"
#include "platform/test_mappings.h"
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

  Loading(
      const std::filesystem::path& model,
      uint64_t budget_bytes,
      uint64_t arena_bytes = kDenseArenaBytes)
      : checkpoint(Checkpoint::open(kParity / model)),
        layout(checkpoint),
        reader(MemoryReader::load(checkpoint.files(), FaultPlan{})),
        budget(budget_bytes),
        weights(checkpoint, layout, *reader, nullptr, budget, arena_bytes) {}
};

ops::DeviceBuffer take_linear(Loading& loading, const std::string& module) {
  const auto& shape = loading.checkpoint.get(module + ".weight").shape;
  const auto quantization = loading.checkpoint.quantization(module);
  const int64_t packed = quantization ? 32 / quantization->bits : 1;
  return loading.weights.linear(module, shape[0], shape[1] * packed).memory;
}

const char* const kAttentionLinears[] = {
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.v_proj",
    "model.layers.0.self_attn.o_proj"};

// Whether `memory` begins where what ends at `end` left off, but for alignment.
bool lies_behind(const std::byte* end, std::span<const std::byte> memory) {
  return memory.data() >= end && memory.data() < end + 64;
}

void check_that_attention_lies_together(Loading& loading) {
  const std::byte* end = nullptr;
  for (const char* name : kAttentionLinears) {
    CAPTURE(name);
    const auto memory = take_linear(loading, name).span();
    if (end) {
      CHECK(lies_behind(end, memory));
    }
    end = memory.data() + memory.size();
  }
}

// The model's weights beside one more tensor, and its config, changed.
void write_copy(
    const TempFolder& folder,
    const std::filesystem::path& model,
    const std::string& extra_tensor,
    const Json& config,
    const std::vector<int64_t>& extra_shape = {2}) {
  Json map;
  const Checkpoint original = Checkpoint::open(model);
  for (const auto& tensor : original.tensors()) {
    map[tensor.name] = "a.safetensors";
  }
  std::filesystem::create_symlink(
      model / "model.safetensors", folder.path() / "a.safetensors");
  if (!extra_tensor.empty()) {
    map[extra_tensor] = "b.safetensors";
    uint64_t bytes = 4;
    for (const int64_t n : extra_shape) {
      bytes *= static_cast<uint64_t>(n);
    }
    Json entry{
        {"dtype", "F32"}, {"shape", extra_shape}, {"data_offsets", {0, bytes}}};
    const std::string header = Json{{extra_tensor, entry}}.dump();
    std::string file(8, '\0');
    const uint64_t header_bytes = header.size();
    std::memcpy(file.data(), &header_bytes, 8);
    folder.write("b.safetensors", file + header + std::string(bytes, '\0'));
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
  check_that_attention_lies_together(loading);
  loading.weights.finish();
}

TEST_CASE("weights: several allocations hold the same bytes as one") {
  Loading one("q4", 1 << 30);
  Loading many("q4", 1 << 30, 4 << 10);
  std::vector<std::pair<ops::DeviceBuffer, ops::DeviceBuffer>> found;
  for (const char* name : kAttentionLinears) {
    found.emplace_back(take_linear(one, name), take_linear(many, name));
  }
  const std::string embedding = "model.embed_tokens"; // longer than 4 KiB
  found.emplace_back(take_linear(one, embedding), take_linear(many, embedding));
  one.weights.finish();
  many.weights.finish();
  size_t behind = 0; // those right behind the one before
  for (size_t i = 0; i < found.size(); ++i) {
    const auto a = found[i].first.span();
    const auto b = found[i].second.span();
    CHECK(std::ranges::equal(a, b));
    for (size_t j = 0; j < i; ++j) {
      const auto other = found[j].second.span();
      CHECK(
          (b.data() >= other.data() + other.size() ||
           other.data() >= b.data() + b.size()));
      behind += lies_behind(other.data() + other.size(), b) ? 1 : 0;
    }
  }
  CHECK(found.back().second.span().size() > 4 << 10);
  CHECK(behind + 1 < found.size());
}

namespace {

// The model "f32" of the tests' data with a tensor of 8 MiB more.
constexpr int64_t kBigRows = 1024;
constexpr int64_t kBigColumns = 2048;
constexpr uint64_t kBigBytes = kBigRows * kBigColumns * 4;

struct BigLoading {
  TempFolder folder;
  std::optional<Loading> loading;

  explicit BigLoading(uint64_t arena_bytes = kDenseArenaBytes) {
    const auto model = kParity / "f32";
    write_copy(
        folder,
        model,
        "big.weight",
        Json::parse(read_file(model / "config.json")),
        {kBigRows, kBigColumns});
    loading.emplace(folder.path(), 1 << 30, arena_bytes);
  }
};

// Leaves memory as it is.
class IdleReader : public MemoryReader {
 public:
  IdleReader() : MemoryReader({}, FaultPlan{}) {}
  void submit(std::span<const ReadRequest>) override {}
};

} // namespace

TEST_CASE("weights: what one allocation had no room for lies in the next") {
  BigLoading big(kBigBytes);
  take_linear(*big.loading, "model.embed_tokens"); // leaves most of it empty
  take_linear(*big.loading, "big"); // fills one
  check_that_attention_lies_together(*big.loading);
  big.loading->weights.finish();
}

TEST_CASE("weights: the plan has a large page for the end of every arena") {
  for (const uint64_t arena_bytes : {4ul << 10, 64ul << 10, kBigBytes}) {
    CAPTURE(arena_bytes);
    BigLoading big(arena_bytes);
    Loading& of = *big.loading;
    uint64_t arenas = 0;
    const std::byte* end = nullptr;
    for (const TensorInfo& tensor : of.checkpoint.tensors()) {
      if (tensor.shape.size() != 2 || of.layout.is_expert_tensor(tensor.name)) {
        continue;
      }
      const std::string module =
          tensor.name.substr(0, tensor.name.rfind(".weight"));
      const auto memory = take_linear(of, module).span();
      arenas += lies_behind(end, memory) ? 0 : 1;
      end = memory.data() + memory.size();
    }
    of.weights.finish();
    CHECK(arenas > 1);
    CHECK(
        dense_bytes(of.checkpoint, of.layout, arena_bytes) >=
        dense_tensors_bytes(of.checkpoint, of.layout) +
            arenas * kLargePageBytes);
  }
}

TEST_CASE("weights: large pages are asked for") {
  if (!can_hint_large_pages()) {
    return;
  }
  BigLoading big;
  const auto memory =
      big.loading->weights.linear("big", kBigRows, kBigColumns).memory;
  CHECK(
      large_page_hint_bytes(memory.span()) >= kBigBytes - 2 * kLargePageBytes);
  big.loading->weights.finish();
}

TEST_CASE("weights: memory has its pages before anything is read into it") {
  if (!can_populate()) {
    return;
  }
  BigLoading big;
  Loading& of = *big.loading;
  IdleReader idle;
  CheckpointWeights weights(of.checkpoint, of.layout, idle, nullptr, of.budget);
  const auto memory = weights.linear("big", kBigRows, kBigColumns).memory;
  const size_t all = memory.span().size() / page_bytes() - 1;
  CHECK(wait_for(
      [&] { return pages_present(memory.span()) >= all; },
      std::chrono::seconds(20)));
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
