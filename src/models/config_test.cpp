#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"
#include "models/config_reader.h"
#include "models/registry.h"

using namespace mlx_flash;
using Json = nlohmann::json;

namespace {

Json demo_config() {
  return Json::parse(
      read_file(MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe/config.json"));
}

// The message of the error that reading `config` throws; fails without one.
std::string complaint(const Json& config, ErrorCode code) {
  try {
    read_model_shape(config.dump());
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("accepted");
  return "";
}

bool names(const std::string& message, const char* what) {
  INFO(message);
  return message.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("config: the demo model's shape is what its card says") {
  const ModelShape shape = read_model_shape(demo_config().dump());
  CHECK(shape.layers == 6);
  CHECK(shape.hidden == 256);
  CHECK(shape.heads == 4);
  CHECK(shape.kv_heads == 2);
  CHECK(shape.head_dim == 64);
  CHECK(shape.experts == 32);
  CHECK(shape.experts_per_token == 4);
  CHECK(shape.expert_layers == std::vector<int>{0, 1, 2, 3, 4, 5});
  CHECK(shape.dense_inner == 0);
}

TEST_CASE("config: sparse step and mlp_only_layers choose expert layers") {
  Json config = demo_config();
  config["decoder_sparse_step"] = 2;
  config["mlp_only_layers"] = {3};
  const ModelShape shape = read_model_shape(config.dump());
  CHECK(shape.expert_layers == std::vector<int>{1, 5});
  CHECK(shape.dense_inner == 512);
}

TEST_CASE("config: an unknown family is refused with the known ones") {
  Json config = demo_config();
  config["model_type"] = "gpt_neo";
  const auto message = complaint(config, ErrorCode::unsupported);
  CHECK(names(message, "gpt_neo"));
  CHECK(names(message, "qwen3_moe"));
}

TEST_CASE("config: options that would change the mathematics are refused") {
  const std::vector<std::pair<const char*, Json>> options{
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"rope_scaling", {{"type", "yarn"}, {"factor", 4}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 4}}},
      {"rope_parameters", {{"partial_rotary_factor", 0.5}}},
      {"partial_rotary_factor", 0.5},
      {"use_sliding_window", true},
      {"is_causal", false}};
  for (const auto& [key, value] : options) {
    Json config = demo_config();
    config[key] = value;
    CHECK(names(complaint(config, ErrorCode::unsupported), key));
  }
}

TEST_CASE("config: missing, mistyped and absurd values name their key") {
  const std::vector<std::pair<const char*, Json>> values{
      {"num_hidden_layers", nullptr},
      {"hidden_size", -1},
      {"hidden_size", "256"},
      {"vocab_size", 1e30},
      {"num_attention_heads", 0},
      {"num_experts_per_tok", 33},
      {"moe_intermediate_size", 3.5},
      {"rms_norm_eps", -1e-6},
      {"rope_theta", 0},
      {"rope_parameters", {{"rope_theta", 5.0}}},
      {"rope_scaling", {{"rope_theta", 5.0}}},
      {"rope_parameters", 7},
      {"head_dim", uint64_t{1} << 63},
      {"mlp_only_layers", {6}},
      {"mlp_only_layers", "none"},
      {"norm_topk_prob", 1}};
  for (const auto& [key, value] : values) {
    Json config = demo_config();
    config[key] = value;
    CHECK(names(complaint(config, ErrorCode::bad_model), key));
  }
}

TEST_CASE("config: heads that cannot share keys and odd heads are refused") {
  Json config = demo_config();
  config["num_key_value_heads"] = 3;
  CHECK(names(complaint(config, ErrorCode::bad_model), "heads"));
  config = demo_config();
  config["head_dim"] = 63;
  CHECK(names(complaint(config, ErrorCode::bad_model), "head_dim"));
}

TEST_CASE("config: the width of heads is bounded where it is not written") {
  Json config = demo_config();
  config.erase("head_dim");
  config["hidden_size"] = 8192;
  config["num_attention_heads"] = 1;
  config["num_key_value_heads"] = 1;
  CHECK(names(complaint(config, ErrorCode::bad_model), "head_dim"));
}

TEST_CASE("config: what is no JSON object is refused") {
  for (const char* text : {"", "[]", "{", "null", "{\"model_type\": 1}"}) {
    CHECK_THROWS_AS(read_model_shape(text), Error);
  }
}
