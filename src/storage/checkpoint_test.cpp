#include "storage/checkpoint.h"

#include <sys/stat.h>

#include <cstring>

#include <doctest/doctest.h>

#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/test_model.h"
#include "storage/test_peak_memory.h"

using namespace mlx_flash;

namespace {

namespace fs = std::filesystem;

struct Refusal {
  ErrorCode code = ErrorCode::internal;
  std::string text;
};

Refusal refusal(const fs::path& folder) {
  try {
    Checkpoint::open(folder);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

void check_refused(
    const TempFolder& folder,
    ErrorCode code,
    std::initializer_list<const char*> parts) {
  const Refusal found = refusal(folder.path());
  CAPTURE(found.text);
  CHECK(found.code == code);
  for (const char* part : parts) {
    CAPTURE(part);
    CHECK(found.text.find(part) != std::string::npos);
  }
}

std::string config_refusal(const std::string& text, ErrorCode code) {
  try {
    parse_model_config(text, "m/config.json");
  } catch (const Error& error) {
    CHECK(error.code() == code);
    CHECK(std::string(error.what()).find("m/config.json") != std::string::npos);
    return error.what();
  }
  return {};
}

// config.json with this "quantization".
std::string config_with(const std::string& quantization) {
  return "{\"model_type\":\"t\",\"quantization\":" + quantization + "}";
}

const TestMoe kMoe{.bits = 4};

} // namespace

TEST_CASE("checkpoint: one file is opened, and every tensor found") {
  TempFolder folder;
  kMoe.write(folder);
  const auto checkpoint = Checkpoint::open(folder.path());
  CHECK(checkpoint.folder() == folder.path());
  CHECK(checkpoint.model_type() == "qwen3_moe");
  CHECK(checkpoint.config_json() == kMoe.config());
  REQUIRE(checkpoint.files().size() == 1);
  CHECK(checkpoint.files()[0] == folder.path() / "model.safetensors");
  CHECK(checkpoint.file_bytes() == fs::file_size(checkpoint.files()[0]));
  const auto tensors = kMoe.tensors();
  CHECK(checkpoint.tensors().size() == tensors.size());
  for (const auto& tensor : tensors) {
    const TensorInfo* found = checkpoint.find(tensor.name);
    REQUIRE(found);
    CHECK(found->name == tensor.name);
    CHECK(found->shape == tensor.shape);
    CHECK(&checkpoint.get(tensor.name) == found);
  }
  CHECK(checkpoint.find("model.norm") == nullptr);
  CHECK_THROWS_WITH_AS(
      checkpoint.get("model.none"), doctest::Contains("'model.none'"), Error);
}

TEST_CASE("checkpoint: shards have the tensors that their index names") {
  TempFolder folder;
  kMoe.write_shards(folder, 3);
  folder.write("model-9.safetensors", "not named, so never opened");
  const auto checkpoint = Checkpoint::open(folder.path());
  REQUIRE(checkpoint.files().size() == 3);
  uint64_t bytes = 0;
  for (const auto& file : checkpoint.files()) {
    bytes += fs::file_size(file);
  }
  CHECK(checkpoint.file_bytes() == bytes);
  for (const auto& tensor : kMoe.tensors()) {
    const TensorInfo& found = checkpoint.get(tensor.name);
    std::vector<std::byte> read(found.bytes);
    DirectFile(checkpoint.files()[found.file]).read_exactly(found.offset, read);
    CHECK(std::memcmp(read.data(), tensor.bytes.data(), read.size()) == 0);
  }
}

TEST_CASE("checkpoint: an index may name the single file, as MLX writes it") {
  TempFolder folder;
  kMoe.write(folder);
  std::string map;
  for (const auto& tensor : kMoe.tensors()) {
    map +=
        (map.empty() ? "\"" : ",\"") + tensor.name + "\":\"model.safetensors\"";
  }
  folder.write(
      "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  CHECK(Checkpoint::open(folder.path()).files().size() == 1);
}

TEST_CASE("checkpoint: shards may be symbolic links, as in a download cache") {
  TempFolder folder;
  kMoe.write_shards(folder, 2);
  fs::create_directory(folder.path() / "blobs");
  for (size_t i = 0; i < 2; ++i) {
    const auto link = folder.path() / TestMoe::shard_name(i);
    const auto blob = folder.path() / "blobs" / std::to_string(i);
    fs::rename(link, blob);
    fs::create_symlink(fs::path("blobs") / std::to_string(i), link);
  }
  const auto checkpoint = Checkpoint::open(folder.path());
  CHECK(checkpoint.files()[0] == folder.path() / TestMoe::shard_name(0));
}

TEST_CASE("checkpoint: what is no model folder is not found") {
  TempFolder folder;
  CHECK(refusal(folder.path() / "absent").code == ErrorCode::not_found);
  check_refused(folder, ErrorCode::not_found, {"has no config.json"});
  folder.write("config.json", "{\"model_type\":\"x\"}");
  check_refused(
      folder, ErrorCode::not_found, {"neither model.safetensors nor"});
  CHECK(refusal(folder.path() / "config.json").code == ErrorCode::not_found);
  // A pipe would be waited for.
  fs::remove(folder.path() / "config.json");
  const auto pipe = folder.path() / "config.json";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  check_refused(folder, ErrorCode::not_found, {"has no config.json"});
}

TEST_CASE("checkpoint: a bad shard is refused by its name") {
  TempFolder folder;
  kMoe.write_shards(folder, 2);
  SUBCASE("missing") {
    fs::remove(folder.path() / "model-1.safetensors");
    check_refused(
        folder, ErrorCode::bad_model, {"model-1.safetensors is missing"});
  }
  SUBCASE("a link to nothing") {
    fs::remove(folder.path() / "model-1.safetensors");
    fs::create_symlink("gone", folder.path() / "model-1.safetensors");
    check_refused(
        folder, ErrorCode::bad_model, {"model-1.safetensors is missing"});
  }
  SUBCASE("cut short") {
    const auto shard = folder.path() / "model-1.safetensors";
    fs::resize_file(shard, fs::file_size(shard) - 1);
    check_refused(
        folder, ErrorCode::bad_model, {"model-1.safetensors", "cut short"});
  }
  SUBCASE("the same as another") {
    fs::copy_file(
        folder.path() / "model-0.safetensors",
        folder.path() / "model-1.safetensors",
        fs::copy_options::overwrite_existing);
    check_refused(
        folder,
        ErrorCode::bad_model,
        {"model-0.safetensors", "model-1.safetensors", "too"});
  }
}

TEST_CASE("checkpoint: an index that differs from its shards is refused") {
  TempFolder folder;
  Rng rng(1);
  const auto tensor = [&](const char* name) {
    return safetensors_file({random_tensor(rng, name, Dtype::u8, {3})});
  };
  folder.write("config.json", "{\"model_type\":\"x\"}");
  folder.write("one.safetensors", tensor("a"));
  folder.write("two.safetensors", tensor("b"));
  const auto refused = [&](const std::string& map,
                           std::initializer_list<const char*> parts) {
    folder.write("model.safetensors.index.json", map);
    CAPTURE(map);
    check_refused(folder, ErrorCode::bad_model, parts);
  };
  const std::string a = "\"a\":\"one.safetensors\"";
  const std::string b = "\"b\":\"two.safetensors\"";
  const auto map = [](const std::string& entries) {
    return "{\"weight_map\":{" + entries + "}}";
  };
  folder.write("model.safetensors.index.json", map(a + "," + b));
  CHECK(Checkpoint::open(folder.path()).tensors().size() == 2);

  refused(
      map(a + "," + b + ",\"c\":\"one.safetensors\""),
      {"tensor 'c' is not in 'one.safetensors'"});
  refused(
      map(a + ",\"b\":\"one.safetensors\""),
      {"tensor 'b' is not in 'one.safetensors'"});
  refused(map(a + "," + a + "," + b), {"tensor 'a' is there twice"});
  folder.write(
      "two.safetensors",
      safetensors_file(
          {random_tensor(rng, "b", Dtype::u8, {3}),
           random_tensor(rng, "d", Dtype::u8, {3})}));
  refused(
      map(a + "," + b),
      {"tensor 'd' of 'two.safetensors' is not in the index"});

  refused("{}", {"no \"weight_map\""});
  refused("[]", {"an object is expected"});
  refused("{\"weight_map\":[]}", {"an object is expected"});
  refused(map(""), {"names no tensors"});
  refused(map("\"a\":1"), {"a string is expected"});
  refused("{\"weight_map\":{},\"weight_map\":{}}", {"second time"});
  for (const char* name :
       {"../one.safetensors",
        "/etc/passwd",
        "a/../../one.safetensors",
        "./one.safetensors",
        "sub/",
        "..",
        "",
        "one\\u0000.safetensors"}) {
    refused(
        map("\"a\":\"" + std::string(name) + "\""),
        {"model.safetensors.index.json",
         "is not the name of a file in the model's folder"});
  }
}

TEST_CASE("checkpoint: an index of countless shards is refused") {
  TempFolder folder;
  folder.write("config.json", "{\"model_type\":\"x\"}");
  std::string map;
  for (int i = 0; i < 2000; ++i) {
    const std::string n = std::to_string(i);
    map += (i ? ",\"" : "\"") + n + "\":\"" + n + ".safetensors\"";
  }
  folder.write(
      "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  check_refused(folder, ErrorCode::bad_model, {"more than 1000 shards"});
}

// ---- config.json ----

TEST_CASE("config: model_type and the rest of real configs are accepted") {
  const auto config = parse_model_config(
      "{\"architectures\":[\"A\"],\"model_type\":\"qwen3_moe\","
      "\"rope_scaling\":null,\"x\":{\"y\":[1,2.5e-3,{}]}}",
      "c");
  CHECK(config.model_type == "qwen3_moe");
  CHECK_FALSE(config.quantization);
}

TEST_CASE("config: what is no JSON object with a model_type is refused") {
  for (const char* text :
       {"",
        "null",
        "[]",
        "{",
        "{\"model_type\":\"a\"",
        "{\"model_type\":\"a\"}x",
        "{\"model_type\":1}",
        "{\"model_type\":\"a\",\"model_type\":\"b\"}",
        "{\"model_type\":\"a\",\"x\":NaN}",
        "{}",
        "{\"model_type\":\"\"}"}) {
    CAPTURE(text);
    CHECK_FALSE(config_refusal(text, ErrorCode::bad_model).empty());
  }
}

TEST_CASE("config: nesting, number of values and size are bounded") {
  const std::string deep =
      "{\"model_type\":\"a\",\"x\":" + std::string(1 << 20, '[');
  CHECK(
      config_refusal(deep, ErrorCode::bad_model).find("deeper than 64") !=
      std::string::npos);
  std::string wide = "{\"model_type\":\"a\",\"x\":[0";
  for (int i = 0; i < 400'000; ++i) {
    wide += ",0";
  }
  CHECK(
      config_refusal(wide + "]}", ErrorCode::bad_model).find("values") !=
      std::string::npos);

  TempFolder folder;
  kMoe.write(folder);
  folder.write(
      "config.json",
      "{\"model_type\":\"a\",\"x\":\"" + std::string(17 << 20, 'x') + "\"}");
  check_refused(folder, ErrorCode::bad_model, {"config.json", "larger than"});
}

TEST_CASE("config: quantization with overrides, in any order") {
  const auto config = parse_model_config(
      config_with(
          "{\"a.gate\":{\"group_size\":64,\"bits\":8},\"b\":false,\"c\":true,"
          "\"group_size\":32,\"bits\":4,\"d\":{\"bits\":6},"
          "\"e\":{\"mode\":\"mxfp4\",\"bits\":4,\"group_size\":32},\"f\":{},"
          "\"g\":{\"mode\":\"mxfp4\"},\"h\":{\"mode\":\"nvfp4\",\"bits\":99}}"),
      "c");
  REQUIRE(config.quantization);
  CHECK(config.quantization->quantization == Quantization{4, 32});
  CHECK(config.quantization->mode == "affine");
  const auto override = [&](const char* name) {
    return config.overrides.at(name);
  };
  CHECK(override("a.gate")->quantization == Quantization{8, 64});
  CHECK_FALSE(override("b"));
  CHECK(override("c")->quantization == Quantization{4, 32});
  // What an override leaves out has MLX's default, not the global value.
  CHECK(override("d")->quantization == Quantization{6, 64});
  const Quantization mxfp4{4, 32, QuantizationMode::mxfp4};
  CHECK(override("e")->quantization == mxfp4);
  CHECK(override("f")->quantization == Quantization{4, 64});
  CHECK(override("g")->quantization == mxfp4);
  // Of a mode that is not known, its name alone.
  CHECK_FALSE(override("h")->quantization);
  CHECK(override("h")->mode == "nvfp4");
}

TEST_CASE("config: quantization null is none, and other types are refused") {
  CHECK_FALSE(parse_model_config(config_with("null"), "c").quantization);
  const std::string good = "\"bits\":4,\"group_size\":64";
  for (const std::string& text : std::vector<std::string>{
           "true",
           "4",
           "\"4bit\"",
           "[]",
           "{}",
           "{\"bits\":4}",
           "{\"group_size\":64}",
           "{\"bits\":\"4\",\"group_size\":64}",
           "{\"bits\":4.0,\"group_size\":64}",
           "{\"bits\":0,\"group_size\":64}",
           "{\"bits\":-4,\"group_size\":64}",
           "{\"bits\":7,\"group_size\":64}",
           "{\"bits\":16,\"group_size\":64}",
           "{\"bits\":4,\"group_size\":0}",
           "{\"bits\":4,\"group_size\":16}",
           "{\"bits\":4,\"group_size\":99999999999999999999}",
           "{\"bits\":4,\"group_size\":9223372036854775807}",
           "{" + good + ",\"bits\":4}",
           "{" + good + ",\"mode\":1}",
           "{" + good + ",\"mode\":\"mxfp4\"}",
           "{\"bits\":8,\"group_size\":32,\"mode\":\"mxfp4\"}",
           "{\"bits\":4,\"group_size\":16,\"mode\":\"mxfp4\"}",
           "{" + good + ",\"m\":{\"bits\":8,\"mode\":\"mxfp4\"}}",
           "{" + good + ",\"m\":{\"group_size\":64,\"mode\":\"mxfp4\"}}",
           "{" + good + ",\"m\":1}",
           "{" + good + ",\"m\":\"x\"}",
           "{" + good + ",\"m\":null}",
           "{" + good + ",\"m\":[]}",
           "{" + good + ",\"m\":{\"bits\":5,\"group_size\":7}}",
           "{" + good + ",\"m\":{\"bites\":5}}",
           "{" + good + ",\"m\":false,\"m\":false}"}) {
    CAPTURE(text);
    CHECK_FALSE(
        config_refusal(config_with(text), ErrorCode::bad_model).empty());
  }
}

TEST_CASE("config: weights that another program quantised are unsupported") {
  const std::string text = config_refusal(
      "{\"model_type\":\"t\",\"quantization_config\":"
      "{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}}",
      ErrorCode::unsupported);
  CHECK(text.find("'fp8'") != std::string::npos);
  // MLX writes its settings under both names.
  CHECK(config_refusal(
            "{\"model_type\":\"t\",\"quantization_config\":{\"bits\":4},"
            "\"quantization\":{\"bits\":4,\"group_size\":64}}",
            ErrorCode::unsupported)
            .empty());
}

// ---- quantization(path) ----

namespace {

constexpr Quantization kMxfp4{4, 32, QuantizationMode::mxfp4};

// A model of a few modules of [4, 128] values.
struct Modules {
  TempFolder folder;
  std::vector<TestTensor> tensors;
  Rng rng{3};

  void quantized(const std::string& name, const Quantization& quantization) {
    append_quantized(tensors, rng, name, {4, 128}, quantization);
  }
  void add(const std::string& name, Dtype dtype, std::vector<int64_t> shape) {
    tensors.push_back(random_tensor(rng, name, dtype, std::move(shape)));
  }
  Checkpoint open(const std::string& quantization) {
    folder.write("config.json", config_with(quantization));
    folder.write("model.safetensors", safetensors_file(tensors));
    return Checkpoint::open(folder.path());
  }
};

std::string
refusal_of(const Checkpoint& checkpoint, const char* module, ErrorCode code) {
  try {
    static_cast<void>(checkpoint.quantization(module));
  } catch (const Error& error) {
    CHECK(error.code() == code);
    CHECK(std::string(error.what()).find(module) != std::string::npos);
    return error.what();
  }
  return {};
}

} // namespace

TEST_CASE(
    "checkpoint: modules have their override, else the global setting "
    "where they have scales") {
  Modules model;
  model.quantized("global", {4, 64});
  model.quantized("listed", {8, 32});
  model.quantized("like_global", {4, 64});
  model.quantized("microscaling", kMxfp4);
  for (int bits : {2, 3, 5, 6}) {
    model.quantized("bits" + std::to_string(bits), {bits, 32});
  }
  model.add("plain.weight", Dtype::bf16, {4, 128});
  model.add("off.weight", Dtype::bf16, {4, 128});
  model.add("listed_plain.weight", Dtype::bf16, {4, 128});
  const auto checkpoint = model.open(
      "{\"bits\":4,\"group_size\":64,\"listed\":{\"bits\":8,\"group_size\":32},"
      "\"like_global\":true,\"off\":false,\"listed_plain\":{\"bits\":8},"
      "\"microscaling\":{\"mode\":\"mxfp4\"},"
      "\"bits2\":{\"bits\":2,\"group_size\":32},"
      "\"bits3\":{\"bits\":3,\"group_size\":32},"
      "\"bits5\":{\"bits\":5,\"group_size\":32},"
      "\"bits6\":{\"bits\":6,\"group_size\":32}}");
  CHECK(checkpoint.quantization("global") == Quantization{4, 64});
  CHECK(checkpoint.quantization("listed") == Quantization{8, 32});
  CHECK(checkpoint.quantization("like_global") == Quantization{4, 64});
  CHECK(checkpoint.quantization("microscaling") == kMxfp4);
  for (int bits : {2, 3, 5, 6}) {
    CHECK(
        checkpoint.quantization("bits" + std::to_string(bits)) ==
        Quantization{bits, 32});
  }
  CHECK_FALSE(checkpoint.quantization("plain"));
  CHECK_FALSE(checkpoint.quantization("off"));
  CHECK_FALSE(checkpoint.quantization("listed_plain"));
  CHECK_FALSE(checkpoint.quantization("absent"));
}

TEST_CASE("checkpoint: settings that do not fit the shapes are refused") {
  Modules model;
  model.quantized("four", {4, 64});
  model.add("float_weight.weight", Dtype::bf16, {4, 16});
  model.add("float_weight.scales", Dtype::bf16, {4, 2});
  model.add("float_weight.biases", Dtype::bf16, {4, 2});
  model.add("byte_scales.weight", Dtype::u32, {4, 16});
  model.add("byte_scales.scales", Dtype::u8, {4, 2});
  model.add("byte_scales.biases", Dtype::u8, {4, 2});
  model.add("unlike.weight", Dtype::u32, {4, 16});
  model.add("unlike.scales", Dtype::bf16, {4, 2});
  model.add("unlike.biases", Dtype::f16, {4, 2});
  model.add("rows.weight", Dtype::u32, {5, 16});
  model.add("rows.scales", Dtype::bf16, {4, 2});
  model.add("rows.biases", Dtype::bf16, {4, 2});
  model.add("vector.weight", Dtype::u32, {16});
  model.add("vector.scales", Dtype::bf16, {2});
  model.add("vector.biases", Dtype::bf16, {2});
  model.add("empty.weight", Dtype::u32, {4, 0});
  model.add("empty.scales", Dtype::bf16, {4, 0});
  model.add("empty.biases", Dtype::bf16, {4, 0});
  model.add("huge.weight", Dtype::u32, {0, 576460752303423488});
  model.add("huge.scales", Dtype::bf16, {0, 0});
  model.add("huge.biases", Dtype::bf16, {0, 0});
  model.add("no_biases.weight", Dtype::u32, {4, 16});
  model.add("no_biases.scales", Dtype::bf16, {4, 2});
  model.add("no_weight.scales", Dtype::bf16, {4, 2});
  model.add("no_weight.biases", Dtype::bf16, {4, 2});
  const auto checkpoint = model.open("{\"bits\":4,\"group_size\":64}");
  CHECK(checkpoint.quantization("four"));
  for (const char* module :
       {"float_weight",
        "byte_scales",
        "unlike",
        "rows",
        "vector",
        "empty",
        "huge",
        "no_biases",
        "no_weight"}) {
    CAPTURE(module);
    CHECK_FALSE(refusal_of(checkpoint, module, ErrorCode::bad_model).empty());
  }
  const auto eight = model.open("{\"bits\":8,\"group_size\":64}");
  CHECK(
      refusal_of(eight, "four", ErrorCode::bad_model)
          .find("16 words and 2 groups in a row, which is not 8 bits in "
                "groups of 64") != std::string::npos);
}

TEST_CASE("checkpoint: tensors that are not those of mxfp4 are refused") {
  Modules model;
  model.quantized("good", kMxfp4);
  model.quantized("affine", {4, 32});
  model.add("float_scales.weight", Dtype::u32, {4, 16});
  model.add("float_scales.scales", Dtype::bf16, {4, 4});
  model.add("e8m0_scales.weight", Dtype::u32, {4, 16});
  model.add("e8m0_scales.scales", Dtype::f8_e8m0, {4, 4});
  model.add("byte_weight.weight", Dtype::u8, {4, 64});
  model.add("byte_weight.scales", Dtype::u8, {4, 4});
  model.add("groups.weight", Dtype::u32, {4, 16});
  model.add("groups.scales", Dtype::u8, {4, 8});
  model.add("rows.weight", Dtype::u32, {5, 16});
  model.add("rows.scales", Dtype::u8, {4, 4});
  model.add("vector.weight", Dtype::u32, {16});
  model.add("vector.scales", Dtype::u8, {4});
  model.add("empty.weight", Dtype::u32, {4, 0});
  model.add("empty.scales", Dtype::u8, {4, 0});
  model.add("no_weight.scales", Dtype::u8, {4, 4});
  const auto checkpoint =
      model.open("{\"bits\":4,\"group_size\":32,\"mode\":\"mxfp4\"}");
  CHECK(checkpoint.quantization("good") == kMxfp4);
  const std::pair<const char*, const char*> refusals[] = {
      {"affine", "has biases"},
      {"float_scales", "scales of BF16, not U32 and U8"},
      {"e8m0_scales", "scales of F8_E8M0"},
      {"byte_weight", "weight of U8"},
      {"groups", "16 words and 8 groups"},
      {"rows", "unlike shapes"},
      {"vector", "unlike shapes"},
      {"empty", "0 words"},
      {"no_weight", "without a weight"}};
  for (const auto& [module, reason] : refusals) {
    const std::string text =
        refusal_of(checkpoint, module, ErrorCode::bad_model);
    CAPTURE(text);
    CHECK(text.find(reason) != std::string::npos);
  }
  const auto affine = model.open("{\"bits\":4,\"group_size\":32}");
  CHECK(
      refusal_of(affine, "good", ErrorCode::bad_model).find("without biases") !=
      std::string::npos);
}

TEST_CASE("checkpoint: modes that are not known are refused by name") {
  Modules model;
  model.quantized("m", {4, 64});
  model.quantized("other", kMxfp4);
  for (const std::string mode : {"nvfp4", "mxfp8", "", "MXFP4"}) {
    CAPTURE(mode);
    const std::string entry =
        "\"bits\":4,\"group_size\":64,\"mode\":\"" + mode + "\"";
    CHECK(
        refusal_of(model.open("{" + entry + "}"), "m", ErrorCode::unsupported)
            .find("in the mode '" + mode + "'") != std::string::npos);
    const auto checkpoint =
        model.open("{\"bits\":4,\"group_size\":64,\"other\":{" + entry + "}}");
    CHECK(checkpoint.quantization("m") == Quantization{4, 64});
    CHECK_FALSE(
        refusal_of(checkpoint, "other", ErrorCode::unsupported).empty());
  }
}

TEST_CASE("checkpoint: scales that config.json does not speak of are refused") {
  Modules model;
  model.quantized("m", {4, 64});
  CHECK_FALSE(
      refusal_of(model.open("null"), "m", ErrorCode::bad_model).empty());
  CHECK_FALSE(refusal_of(
                  model.open("{\"bits\":4,\"group_size\":64,\"m\":false}"),
                  "m",
                  ErrorCode::bad_model)
                  .empty());
}

TEST_CASE("checkpoint: a hostile folder takes little memory") {
  TempFolder folder;
  kMoe.write(folder);
  SUBCASE("config.json") {
    std::string text =
        "{\"model_type\":\"a\",\"quantization\":{\"bits\":4,"
        "\"group_size\":64";
    for (int i = 0; text.size() < (15 << 20); ++i) {
      text += ",\"" + std::to_string(i) + "\":{}";
    }
    folder.write("config.json", text + "}}");
  }
  SUBCASE("model.safetensors.index.json") {
    std::string text = "{\"weight_map\":{\"x\":\"model.safetensors\"";
    for (int i = 0; text.size() < (40 << 20); ++i) {
      text += ",\"" + std::to_string(i) + "\":\"model.safetensors\"";
    }
    folder.write("model.safetensors.index.json", text + "}}");
  }
  const PeakMemory peak;
  CHECK(refusal(folder.path()).code == ErrorCode::bad_model);
  CHECK(peak.grown_bytes() < 95 << 20);
}
