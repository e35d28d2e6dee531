#include "storage/expert_layout.h"

#include <fmt/format.h>

#include <cstring>
#include <functional>

#include <doctest/doctest.h>

#include "base/align.h"
#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/tensor_table.h"
#include "storage/test_model.h"
#include "storage/test_peak_memory.h"

using namespace mlx_flash;

namespace {

const char* const kNames[] = {"gate_proj", "up_proj", "down_proj"};
const char* const kParts[] = {".weight", ".scales", ".biases"};
constexpr Quantization kMxfp4{4, 32, QuantizationMode::mxfp4};

std::string read(const Checkpoint& checkpoint, const Section& section) {
  std::string bytes(section.bytes, '\0');
  DirectFile(checkpoint.files()[section.file])
      .read_exactly(
          section.file_offset, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// What the test model wrote for one part of an expert.
std::string written(
    const TestMoe& moe,
    const std::vector<TestTensor>& tensors,
    int layer,
    int expert,
    const std::string& projection_and_part) {
  const std::string mlp = "model.layers." + std::to_string(layer) + ".mlp.";
  const std::string name = moe.stacked
      ? mlp + "switch_mlp." + projection_and_part
      : mlp + "experts." + std::to_string(expert) + "." + projection_and_part;
  for (const auto& tensor : tensors) {
    if (tensor.name == name) {
      if (!moe.stacked) {
        return tensor.bytes;
      }
      const size_t size =
          tensor.bytes.size() / static_cast<size_t>(moe.experts);
      return tensor.bytes.substr(static_cast<size_t>(expert) * size, size);
    }
  }
  FAIL("the test model has no " << name);
  return {};
}

// Layout of a model of these tensors; throws what the layout throws.
void lay_out(
    const std::vector<TestTensor>& tensors,
    const std::string& config = "{\"model_type\":\"t\"}") {
  TempFolder folder;
  folder.write("config.json", config);
  folder.write("model.safetensors", safetensors_file(tensors));
  ExpertLayout layout(Checkpoint::open(folder.path()));
}

void check_refused(
    const std::vector<TestTensor>& tensors,
    ErrorCode code,
    const std::string& reason,
    const std::string& config = "{\"model_type\":\"t\"}") {
  try {
    lay_out(tensors, config);
    FAIL("no error");
  } catch (const Error& error) {
    const std::string text = error.what();
    CAPTURE(text);
    CHECK(error.code() == code);
    CHECK(text.find(reason) != std::string::npos);
  }
}

TestTensor& named(std::vector<TestTensor>& tensors, const std::string& end) {
  for (auto& tensor : tensors) {
    if (tensor.name.ends_with(end)) {
      return tensor;
    }
  }
  FAIL("no tensor " << end);
  return tensors.front();
}

void remove(std::vector<TestTensor>& tensors, const std::string& end) {
  const auto* tensor = &named(tensors, end);
  tensors.erase(tensors.begin() + (tensor - tensors.data()));
}

} // namespace

TEST_CASE(
    "expert layout: finds each expert's bytes in both forms, quantised "
    "and not, in one file and in shards") {
  for (const bool stacked : {true, false}) {
    for (const auto& [bits, group_size, mode] :
         {Quantization{}, Quantization{3, 32}, Quantization{4, 32}, kMxfp4}) {
      const size_t parts = !bits ? 1 : mode == QuantizationMode::affine ? 3 : 2;
      for (const size_t shards : {0, 3}) {
        CAPTURE(stacked);
        CAPTURE(bits);
        CAPTURE(parts);
        CAPTURE(shards);
        TempFolder folder;
        const TestMoe moe{
            .experts = 11,
            .hidden = 128,
            .bits = bits,
            .group_size = group_size,
            .mode = mode,
            .stacked = stacked};
        shards ? moe.write_shards(folder, shards) : moe.write(folder);
        const auto checkpoint = Checkpoint::open(folder.path());
        const ExpertLayout layout(checkpoint);
        const auto tensors = moe.tensors();
        CHECK(layout.expert_count() == 22);
        uint64_t total = 0, largest = 0;
        for (int l = 0; l < moe.layers; ++l) {
          for (int e = 0; e < moe.experts; ++e) {
            const auto sections = layout.sections(
                {static_cast<uint16_t>(l), static_cast<uint16_t>(e)});
            REQUIRE(sections.size() == 3 * parts);
            for (size_t i = 0; i < sections.size(); ++i) {
              const std::string expected = written(
                  moe,
                  tensors,
                  l,
                  e,
                  std::string(kNames[i / parts]) + kParts[i % parts]);
              REQUIRE(read(checkpoint, sections[i]) == expected);
              total += sections[i].bytes;
              largest = std::max(largest, sections[i].bytes);
            }
          }
        }
        CHECK(layout.total_bytes() == total);
        CHECK(layout.largest_section_bytes() == largest);
      }
    }
  }
}

TEST_CASE("expert layout: describes the matrices of a slot") {
  TempFolder folder;
  const TestMoe moe{.hidden = 128, .inner = 64, .bits = 4, .group_size = 64};
  moe.write(folder);
  const ExpertLayout layout(Checkpoint::open(folder.path()));
  REQUIRE(layout.layers().size() == 2);
  const LayerExperts& layer = *layout.layer(1);
  CHECK(layer.layer == 1);
  CHECK(layer.experts == 4);
  const auto& [gate, up, down] = layer.projections;
  CHECK(gate.out == 64);
  CHECK(gate.in == 128);
  CHECK(up.out == 64);
  CHECK(down.out == 128);
  CHECK(down.in == 64);
  CHECK(gate.quantization == Quantization{4, 64});
  CHECK(gate.weight_dtype == Dtype::u32);
  CHECK(gate.scale_dtype == Dtype::bf16);
  CHECK(layer.record_bytes == 3 * 64 * 128 / 2 + 6 * 64 * 128 / 64 * 2);
  CHECK(layout.layer(2) == nullptr);
  CHECK(layout.layer(65535) == nullptr);
}

TEST_CASE(
    "expert layout: sections lie in order, in blocks of their own, of 4096 "
    "bytes when they are large, and fit the slot") {
  TempFolder folder;
  // Weights of 68 KiB and scales of 8704 bytes: whole blocks of 4096 and 512.
  const TestMoe moe{.hidden = 544, .inner = 256, .bits = 4, .group_size = 32};
  // Weights of 68,096 bytes, 16.625 blocks: experts begin in many places.
  const TestMoe odd{.hidden = 608, .inner = 224, .bits = 4, .group_size = 32};
  const TestMoe small{.hidden = 96, .inner = 32, .bits = 3};
  int in_place = 0;
  for (const auto& [model, header_unit] : {
           std::pair(moe, size_t{8}),
           std::pair(moe, size_t{1}),
           std::pair(odd, size_t{8}),
           std::pair(small, size_t{8}),
       }) {
    model.write(folder, header_unit);
    const ExpertLayout layout(Checkpoint::open(folder.path()));
    for (const LayerExperts& layer : layout.layers()) {
      uint64_t end = 0;
      uint64_t largest = 0;
      for (const Section& section : layout.sections({layer.layer, 1})) {
        const uint64_t block = section.bytes >= 65536 ? 4096
            : section.bytes >= 8192                   ? 512
                                                      : 64;
        CHECK(section.block_bytes == block);
        const bool alike = block >= 512 && section.bytes % block == 0 &&
            section.file_offset % 8 == 0;
        const uint64_t place = alike ? section.file_offset % block : 0;
        in_place += place > 0;
        CHECK(section.slot_offset == round_up(end, block) + place);
        end = round_up(section.slot_offset + section.bytes, block);
        largest = std::max(largest, block);
      }
      CHECK(largest == (model.hidden == 96 ? 64 : 4096));
      CHECK(layer.slot_bytes == round_up(end, largest));
      const auto sections = layout.sections({layer.layer, 0});
      for (size_t p = 0; p < 3; ++p) {
        const ProjectionLayout& projection = layer.projections[p];
        CHECK(projection.weight_offset == sections[3 * p].slot_offset);
        CHECK(projection.scales_offset == sections[3 * p + 1].slot_offset);
        CHECK(projection.biases_offset == sections[3 * p + 2].slot_offset);
      }
      CHECK(layout.slot_bytes() == layer.slot_bytes);
    }
  }
  CHECK(in_place >= 18); // those of `moe`, read from the device as they are
}

TEST_CASE("expert layout: projections of mxfp4 take no room for biases") {
  TempFolder folder;
  Rng rng(12);
  const std::string mlp = "model.layers.0.mlp.switch_mlp.";
  std::vector<TestTensor> tensors;
  append_quantized(tensors, rng, mlp + "gate_proj", {3, 64, 128}, kMxfp4);
  append_quantized(tensors, rng, mlp + "up_proj", {3, 64, 128}, {4, 32});
  append_quantized(tensors, rng, mlp + "down_proj", {3, 128, 64}, kMxfp4);
  folder.write(
      "config.json",
      "{\"model_type\":\"t\",\"quantization\":{\"bits\":4,\"group_size\":32,"
      "\"mode\":\"mxfp4\",\"" +
          mlp + "up_proj\":{\"bits\":4,\"group_size\":32}}}");
  folder.write("model.safetensors", safetensors_file(tensors));
  const ExpertLayout layout(Checkpoint::open(folder.path()));
  const LayerExperts& layer = *layout.layer(0);
  const auto& [gate, up, down] = layer.projections;
  CHECK(gate.quantization == kMxfp4);
  CHECK(gate.scale_dtype == Dtype::u8);
  CHECK(gate.out == 64);
  CHECK(gate.in == 128);
  CHECK(up.quantization == Quantization{4, 32});
  CHECK(up.scale_dtype == Dtype::bf16);
  CHECK(down.in == 64);
  const auto sections = layout.sections({0, 2});
  REQUIRE(sections.size() == 7);
  const uint64_t offsets[] = {
      gate.weight_offset,
      gate.scales_offset,
      up.weight_offset,
      up.scales_offset,
      up.biases_offset,
      down.weight_offset,
      down.scales_offset};
  uint64_t end = 0;
  for (size_t i = 0; i < sections.size(); ++i) {
    CHECK(sections[i].slot_offset == offsets[i]);
    CHECK(sections[i].slot_offset >= end);
    CHECK(sections[i].slot_offset < end + 64);
    end = sections[i].slot_offset + sections[i].bytes;
  }
  constexpr uint64_t kPacked = 64 * 128 / 2;
  constexpr uint64_t kGroups = 64 * 128 / 32;
  CHECK(layer.record_bytes == 3 * kPacked + (2 * 1 + 2 * 2) * kGroups);
  CHECK(layer.slot_bytes == end);
}

TEST_CASE("expert layout: layers may differ, and may be dense") {
  TempFolder folder;
  Rng rng(5);
  std::vector<TestTensor> tensors;
  const auto add = [&](int layer, int bits, int down_bits) {
    for (const char* name : kNames) {
      const bool down = name[0] == 'd';
      append_quantized(
          tensors,
          rng,
          "model.layers." + std::to_string(layer) + ".mlp.switch_mlp." + name,
          {3, down ? 128 : 64, down ? 64 : 128},
          {down ? down_bits : bits, 64});
    }
  };
  add(1, 4, 4);
  add(3, 4, 8);
  tensors.push_back(random_tensor(
      rng, "model.layers.2.mlp.up_proj.weight", Dtype::bf16, {8, 8}));
  folder.write(
      "config.json",
      "{\"model_type\":\"t\",\"quantization\":{\"bits\":4,\"group_size\":64,"
      "\"model.layers.3.mlp.switch_mlp.down_proj\":{\"bits\":8}}}");
  folder.write("model.safetensors", safetensors_file(tensors));
  const ExpertLayout layout(Checkpoint::open(folder.path()));
  REQUIRE(layout.layers().size() == 2);
  CHECK(layout.layer(0) == nullptr);
  CHECK(layout.layer(2) == nullptr);
  CHECK(layout.layer(1)->projections[2].quantization == Quantization{4, 64});
  CHECK(layout.layer(3)->projections[2].quantization == Quantization{8, 64});
  CHECK(layout.layer(3)->slot_bytes > layout.layer(1)->slot_bytes);
  CHECK(layout.slot_bytes() == layout.layer(3)->slot_bytes);

  CHECK(layout.is_expert_tensor(
      "model.layers.1.mlp.switch_mlp.gate_proj.scales"));
  CHECK_FALSE(layout.is_expert_tensor(
      "model.layers.2.mlp.switch_mlp.gate_proj.scales"));
  CHECK_FALSE(layout.is_expert_tensor("model.layers.2.mlp.up_proj.weight"));
  CHECK_FALSE(layout.is_expert_tensor("model.layers.1.mlp.gate.weight"));
  CHECK_FALSE(layout.is_expert_tensor(""));
}

TEST_CASE("expert layout: a dense model has no layers") {
  TempFolder folder;
  Rng rng(6);
  folder.write("config.json", "{\"model_type\":\"t\"}");
  folder.write(
      "model.safetensors",
      safetensors_file({random_tensor(rng, "a.weight", Dtype::f32, {2})}));
  const ExpertLayout layout(Checkpoint::open(folder.path()));
  CHECK(layout.layers().empty());
  CHECK(layout.expert_count() == 0);
  CHECK(layout.slot_bytes() == 0);
  CHECK(layout.total_bytes() == 0);
  CHECK(layout.largest_section_bytes() == 0);
}

TEST_CASE(
    "expert layout: many experts are found in the order of their "
    "numbers") {
  TempFolder folder;
  const TestMoe moe{
      .layers = 11, .experts = 120, .hidden = 8, .inner = 8, .stacked = false};
  moe.write(folder);
  const auto checkpoint = Checkpoint::open(folder.path());
  const ExpertLayout layout(checkpoint);
  REQUIRE(layout.layers().size() == 11);
  for (uint16_t l = 0; l < 11; ++l) {
    CHECK(layout.layers()[l].layer == l);
    for (const uint16_t e : {0, 9, 10, 100, 119}) {
      const auto sections = layout.sections({l, e});
      const auto& tensor = checkpoint.get(
          "model.layers." + std::to_string(l) + ".mlp.experts." +
          std::to_string(e) + ".down_proj.weight");
      CHECK(sections[2].file_offset == tensor.offset);
    }
  }
}

TEST_CASE("expert layout: incomplete and unlike experts are refused") {
  const std::string config = TestMoe{.bits = 4}.config();
  const auto stacked = TestMoe{.bits = 4}.tensors();
  const auto single = TestMoe{.bits = 4, .stacked = false}.tensors();
  lay_out(stacked, config);
  lay_out(single, config);

  auto tensors = stacked;
  remove(tensors, "1.mlp.switch_mlp.up_proj.weight");
  check_refused(
      tensors, ErrorCode::bad_model, "layer 1 lacks one of the", config);
  tensors = stacked;
  remove(tensors, "1.mlp.switch_mlp.up_proj.biases");
  check_refused(
      tensors,
      ErrorCode::bad_model,
      "1.mlp.switch_mlp.up_proj' has scales without biases",
      config);
  tensors = stacked;
  remove(tensors, "1.mlp.switch_mlp.up_proj.scales");
  check_refused(
      tensors,
      ErrorCode::bad_model,
      "1.mlp.switch_mlp.up_proj.biases' without scales",
      config);

  tensors = single;
  for (const char* name : kNames) {
    for (const char* part : kParts) {
      remove(tensors, std::string("1.mlp.experts.2.") + name + part);
    }
  }
  check_refused(
      tensors, ErrorCode::bad_model, "layer 1 lacks expert 2", config);
  tensors = single;
  remove(tensors, "0.mlp.experts.2.down_proj.weight");
  check_refused(tensors, ErrorCode::bad_model, "layer 0 lacks one", config);

  tensors = single;
  tensors.insert(tensors.end(), stacked.begin() + 4, stacked.end());
  for (auto& tensor : tensors) {
    if (tensor.name.find("mlp.gate.") != std::string::npos) {
      tensor.name += std::to_string(&tensor - tensors.data());
    }
  }
  check_refused(
      tensors, ErrorCode::bad_model, "stacked form and one by one", config);
}

TEST_CASE("expert layout: shapes and types that differ are refused") {
  Rng rng(8);
  const auto replaced = [&](bool one_by_one,
                            const std::string& end,
                            Dtype dtype,
                            std::vector<int64_t> shape) {
    auto tensors = TestMoe{.stacked = !one_by_one}.tensors();
    TestTensor& tensor = named(tensors, end);
    tensor = random_tensor(rng, tensor.name, dtype, std::move(shape));
    return tensors;
  };
  const auto bad = [](const std::vector<TestTensor>& tensors,
                      const std::string& reason) {
    check_refused(tensors, ErrorCode::bad_model, reason);
  };
  const std::string up = "1.mlp.switch_mlp.up_proj.weight";
  bad(replaced(false, up, Dtype::bf16, {5, 32, 64}), "[4, out, in]");
  bad(replaced(false, up, Dtype::bf16, {4, 64}), "[4, out, in]");
  bad(replaced(false, up, Dtype::bf16, {4, 32, 0}), "[4, out, in]");
  bad(replaced(false, up, Dtype::bf16, {4, 32, 63}), "do not fit");
  bad(replaced(false, "1.mlp.switch_mlp.gate_proj.weight", Dtype::bf16, {}),
      "0 experts");
  const std::string one = "0.mlp.experts.3.down_proj.weight";
  bad(replaced(true, one, Dtype::bf16, {64, 33}), "unlike that of expert 0");
  bad(replaced(true, one, Dtype::f16, {64, 32}), "unlike that of expert 0");
  bad(replaced(
          true, "0.mlp.experts.0.down_proj.weight", Dtype::bf16, {64, 32, 1}),
      "[out, in]");
  check_refused(
      replaced(false, up, Dtype::f8_e4m3, {4, 32, 64}),
      ErrorCode::unsupported,
      "F8_E4M3");
}

TEST_CASE("expert layout: unlike quantisation of one expert is refused") {
  const TestMoe moe{.hidden = 64, .inner = 64, .bits = 4, .stacked = false};
  std::string config = moe.config();
  config.insert(
      config.size() - 2,
      ", \"model.layers.0.mlp.experts.1.up_proj\": "
      "{\"bits\": 2, \"group_size\": 64}");
  // Twice the group size and half the bits would be the same shapes.
  auto tensors = moe.tensors();
  check_refused(tensors, ErrorCode::bad_model, "quantised unlike", config);
}

TEST_CASE(
    "expert layout: unknown tensors among the experts are refused, not "
    "taken for dense ones") {
  Rng rng(9);
  for (const char* name :
       {"model.layers.0.mlp.switch_mlp.gate_proj.bias",
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.0.gate_proj.weight_scale_inv",
        "model.layers.0.mlp.experts.00.gate_proj.weight",
        "model.layers.0.mlp.experts.65536.gate_proj.weight",
        "model.layers.65536.mlp.experts.0.gate_proj.weight",
        "model.layers.-1.mlp.experts.0.gate_proj.weight",
        "model.layers.0.mlp.experts.0.w1.weight"}) {
    auto tensors = TestMoe{}.tensors();
    tensors.push_back(random_tensor(rng, name, Dtype::bf16, {2, 2}));
    check_refused(tensors, ErrorCode::unsupported, name);
  }
}

TEST_CASE("expert layout: more experts than any model has are refused") {
  // One byte of bf16 cannot be had: two for each matrix.
  std::vector<TestTensor> tensors;
  Rng rng(10);
  for (int l = 0; l < 5; ++l) {
    for (const char* name : kNames) {
      tensors.push_back(random_tensor(
          rng,
          "model.layers." + std::to_string(l) + ".mlp.switch_mlp." + name +
              ".weight",
          Dtype::bf16,
          {60000, 1, 1}));
    }
  }
  check_refused(tensors, ErrorCode::bad_model, "more than 262144 experts");
  tensors.resize(3);
  for (auto& tensor : tensors) {
    tensor = random_tensor(rng, tensor.name, Dtype::bf16, {65536, 1, 1});
  }
  check_refused(tensors, ErrorCode::bad_model, "65536 experts");
}

TEST_CASE(
    "expert layout: a mutated model is refused, or its sections lie in "
    "its files and slots") {
  const uint64_t seed = 61;
  CAPTURE(seed);
  Rng rng(seed);
  const TempFolder folder;
  int accepted = 0;
  for (int i = 0; i < 400; ++i) {
    CAPTURE(i);
    const TestMoe moe{
        .layers = 1,
        .experts = 3,
        .hidden = 32,
        .bits = rng.below(2) ? 4 : 0,
        .mode =
            rng.below(2) ? QuantizationMode::affine : QuantizationMode::mxfp4,
        .stacked = rng.below(2) == 0};
    auto tensors = moe.tensors();
    for (uint64_t m = rng.below(3); m > 0; --m) {
      TestTensor& tensor = tensors[rng.below(tensors.size())];
      auto shape = tensor.shape;
      switch (shape.empty() ? 2 : rng.below(4)) {
        case 0:
          shape[rng.below(shape.size())] = static_cast<int64_t>(rng.below(9));
          break;
        case 1:
          std::swap(shape.front(), shape.back());
          break;
        case 2:
          shape.insert(shape.begin(), 1);
          break;
        default:
          shape.pop_back();
      }
      const auto dtype = rng.below(3) ? *parse_dtype(tensor.dtype)
                                      : static_cast<Dtype>(rng.below(16));
      tensor = random_tensor(rng, tensor.name, dtype, shape);
    }
    folder.write("config.json", moe.config());
    folder.write("model.safetensors", safetensors_file(tensors));
    try {
      const auto checkpoint = Checkpoint::open(folder.path());
      const ExpertLayout layout(checkpoint);
      ++accepted;
      for (const LayerExperts& layer : layout.layers()) {
        for (uint16_t e = 0; e < layer.experts; ++e) {
          uint64_t end = 0;
          for (const Section& section : layout.sections({layer.layer, e})) {
            REQUIRE(section.bytes > 0);
            REQUIRE(
                section.file_offset + section.bytes <= checkpoint.file_bytes());
            REQUIRE(section.slot_offset >= end);
            end = section.slot_offset + section.bytes;
          }
          REQUIRE(end <= layer.slot_bytes);
        }
      }
    } catch (const Error& error) {
      const bool expected = error.code() == ErrorCode::bad_model ||
          error.code() == ErrorCode::unsupported;
      REQUIRE(expected);
    }
  }
  CHECK(accepted > 50);
  CHECK(accepted < 390);
}

// As many tensors as are allowed: every expert of a layer by itself, each part
// a tensor of no bytes.
TEST_CASE("expert layout: a hostile folder takes little memory") {
  TempFolder folder;
  std::string header = "{";
  for (size_t i = 0; i + 1 < TensorTable::kMaxTensors; ++i) {
    header += fmt::format(
        R"("model.layers.{}.mlp.experts.{}.gate_proj.weight":)"
        R"({{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},)",
        i / 60000,
        i % 60000);
  }
  header.back() = '}';
  std::string size(8, '\0');
  const uint64_t header_bytes = header.size();
  std::memcpy(size.data(), &header_bytes, 8);
  folder.write("model.safetensors", size + header);
  folder.write("config.json", R"({"model_type":"qwen3_moe"})");
  header = {};
  const PeakMemory peak;
  CHECK_THROWS_AS(ExpertLayout(Checkpoint::open(folder.path())), Error);
  CHECK(peak.grown_bytes() < 98 << 20);
}
