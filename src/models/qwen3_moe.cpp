#include "models/qwen3_moe.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <variant>

#include "base/error.h"
#include "models/config_reader.h"

namespace mlx_flash {

namespace {

using ops::Linear;
using ops::mx::array;

struct Config {
  ModelShape shape;
  float norm_eps = 1e-6f;
  float rope_base = 10000;
  bool normalize_weights = true; // norm_topk_prob
  bool tied_head = false;
};

constexpr const char* kEmbedding = "model.embed_tokens";
constexpr const char* kRopeObjects[] = {"rope_scaling", "rope_parameters"};

// What the checkpoint may ask for and we would compute wrongly.
void refuse_unsupported(const ConfigReader& config) {
  const auto refuse = [](const char* key, const char* supported) {
    fail(
        ErrorCode::unsupported,
        "[config] config.json: this build runs qwen3_moe with {} only, and "
        "'{}' says otherwise",
        supported,
        key);
  };
  if (config.has("hidden_act") && config.text("hidden_act") != "silu") {
    refuse("hidden_act", "the activation silu");
  }
  if (config.boolean("attention_bias", false)) {
    refuse("attention_bias", "attention without biases");
  }
  for (const char* key : kRopeObjects) {
    const ConfigReader rope = config.object(key);
    for (const char* type : {"rope_type", "type"}) {
      if (rope.has(type) && rope.text(type) != "default") {
        refuse(key, "plain RoPE");
      }
    }
    if (rope.has("factor") ||
        rope.number("partial_rotary_factor", 0, 1, 1) < 1) {
      refuse(key, "plain RoPE");
    }
  }
  if (config.number("partial_rotary_factor", 0, 1, 1) < 1) {
    refuse("partial_rotary_factor", "plain RoPE");
  }
  if (config.boolean("use_sliding_window", false)) {
    refuse("use_sliding_window", "full attention");
  }
  // Some models for embeddings attend to what follows, too.
  if (!config.boolean("is_causal", true)) {
    refuse("is_causal", "causal attention");
  }
}

// At the top, or in an object as newer versions of transformers write it.
float rope_base(const ConfigReader& config) {
  std::optional<double> base;
  const auto take = [&](const ConfigReader& values, const char* where) {
    if (!values.has("rope_theta")) {
      return;
    }
    const double value = values.number("rope_theta", 1, 1e12);
    if (base.value_or(value) != value) {
      fail(
          ErrorCode::bad_model,
          "[config] config.json: rope_theta is {} in {}, but {} elsewhere",
          value,
          where,
          *base);
    }
    base = value;
  };
  take(config, "the top level");
  for (const char* key : kRopeObjects) {
    take(config.object(key), key);
  }
  return static_cast<float>(base.value_or(10000.0));
}

std::vector<int> expert_layers(const ConfigReader& config, int layers) {
  const auto dense = config.integers("mlp_only_layers", 0, layers - 1);
  const int64_t step = config.integer("decoder_sparse_step", 1, 1 << 16, 1);
  std::vector<int> sparse;
  for (int layer = 0; layer < layers; ++layer) {
    const bool listed =
        std::find(dense.begin(), dense.end(), layer) != dense.end();
    if (!listed && (layer + 1) % step == 0) {
      sparse.push_back(layer);
    }
  }
  return sparse;
}

Config read_config(const std::string& json) {
  const ConfigReader reader(json);
  refuse_unsupported(reader);
  const auto count =
      [&](const char* key, int64_t most, std::optional<int64_t> fallback = {}) {
        return static_cast<int>(reader.integer(key, 1, most, fallback));
      };
  Config config;
  ModelShape& s = config.shape;
  s.layers = count("num_hidden_layers", 4096);
  s.hidden = count("hidden_size", 1 << 18);
  s.heads = count("num_attention_heads", 4096);
  s.kv_heads = count("num_key_value_heads", 4096, s.heads);
  s.head_dim = count("head_dim", 4096, std::max(1, s.hidden / s.heads));
  s.vocab = count("vocab_size", 1 << 24);
  s.max_positions =
      reader.integer("max_position_embeddings", 1, int64_t{1} << 30, 32768);
  s.experts = static_cast<int>(reader.integer("num_experts", 0, 65535));
  if (s.experts > 0) {
    s.expert_layers = expert_layers(reader, s.layers);
    s.experts_per_token = count("num_experts_per_tok", s.experts);
    s.expert_inner = count("moe_intermediate_size", 1 << 20);
  }
  if (s.expert_layers.size() < static_cast<size_t>(s.layers)) {
    s.dense_inner = count("intermediate_size", 1 << 20);
  }
  if (s.heads % s.kv_heads != 0) {
    fail(
        ErrorCode::bad_model,
        "[config] config.json: {} attention heads cannot share {} key/value "
        "heads",
        s.heads,
        s.kv_heads);
  }
  if (s.head_dim % 2 != 0) {
    fail(
        ErrorCode::bad_model,
        "[config] config.json: head_dim {} is odd, which RoPE cannot rotate",
        s.head_dim);
  }
  config.norm_eps =
      static_cast<float>(reader.number("rms_norm_eps", 0, 1, 1e-6));
  config.rope_base = rope_base(reader);
  config.normalize_weights = reader.boolean("norm_topk_prob", false);
  config.tied_head = reader.boolean("tie_word_embeddings", false);
  s.embedding = config.tied_head ? "" : kEmbedding;
  return config;
}

struct SparseMlp {
  Linear router;
};

struct Layer {
  array input_norm;
  Linear q;
  Linear k;
  Linear v;
  Linear o;
  array q_norm;
  array k_norm;
  array mlp_norm;
  std::variant<ops::SwigluMlp, SparseMlp> mlp;
};

std::variant<ops::SwigluMlp, SparseMlp> load_mlp(
    const ModelShape& s,
    int index,
    const std::string& prefix,
    WeightSource& weights) {
  if (std::binary_search(
          s.expert_layers.begin(), s.expert_layers.end(), index)) {
    return SparseMlp{weights.linear(prefix + "gate", s.experts, s.hidden)};
  }
  return ops::SwigluMlp{
      weights.linear(prefix + "gate_proj", s.dense_inner, s.hidden),
      weights.linear(prefix + "up_proj", s.dense_inner, s.hidden),
      weights.linear(prefix + "down_proj", s.hidden, s.dense_inner)};
}

Layer load_layer(const ModelShape& s, int index, WeightSource& weights) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const std::string attention = prefix + "self_attn.";
  const int64_t q_width = int64_t{s.heads} * s.head_dim;
  const int64_t kv_width = int64_t{s.kv_heads} * s.head_dim;
  return {
      weights.vector(prefix + "input_layernorm.weight", s.hidden),
      weights.linear(attention + "q_proj", q_width, s.hidden),
      weights.linear(attention + "k_proj", kv_width, s.hidden),
      weights.linear(attention + "v_proj", kv_width, s.hidden),
      weights.linear(attention + "o_proj", s.hidden, q_width),
      weights.vector(attention + "q_norm.weight", s.head_dim),
      weights.vector(attention + "k_norm.weight", s.head_dim),
      weights.vector(prefix + "post_attention_layernorm.weight", s.hidden),
      load_mlp(s, index, prefix + "mlp.", weights)};
}

class Qwen3Moe : public Model {
 public:
  Qwen3Moe(const Config& config, ops::Ops& ops, WeightSource& weights)
      : config_(config),
        ops_(ops),
        embedding_(weights.linear(
            kEmbedding,
            config.shape.vocab,
            config.shape.hidden)),
        norm_(weights.vector("model.norm.weight", config.shape.hidden)) {
    const ModelShape& s = config_.shape;
    for (int layer = 0; layer < s.layers; ++layer) {
      layers_.push_back(load_layer(s, layer, weights));
    }
    if (!config_.tied_head) {
      head_ = weights.linear("lm_head", s.vocab, s.hidden);
    }
  }

  const ModelShape& shape() const override {
    return config_.shape;
  }

  array forward(
      const ops::Batch& batch,
      ops::KvCache& cache,
      ExpertSource& experts,
      const IsUnwanted& is_unwanted) override {
    array x = ops_.embed(embedding_, batch.tokens);
    for (int i = 0; i < config_.shape.layers; ++i) {
      if (is_unwanted && is_unwanted()) {
        throw StepStopped();
      }
      const Layer& layer = layers_[i];
      x = ops_.add(
          x, attend(layer, i, normed(x, layer.input_norm), cache, batch));
      x = ops_.add(x, mlp(layer, i, normed(x, layer.mlp_norm), experts));
      ops_.settle(x);
    }
    return x;
  }

  array states(const array& hidden, const std::vector<int32_t>& rows) override {
    return normed(ops_.select_rows(hidden, rows), norm_);
  }

  array logits(const array& hidden, const std::vector<int32_t>& rows) override {
    return ops_.linear(head_ ? *head_ : embedding_, states(hidden, rows));
  }

 private:
  array normed(const array& x, const array& weight) {
    return ops_.rms_norm(x, weight, config_.norm_eps);
  }

  array attend(
      const Layer& layer,
      int index,
      const array& x,
      ops::KvCache& cache,
      const ops::Batch& batch) {
    const ModelShape& s = config_.shape;
    const ops::RopeSpec rope{s.head_dim, s.head_dim, config_.rope_base};
    const ops::AttentionSpec spec{
        s.heads,
        s.kv_heads,
        s.head_dim,
        static_cast<float>(1.0 / std::sqrt(double{1} * s.head_dim))};
    const auto qkv = ops_.linears({&layer.q, &layer.k, &layer.v}, x);
    const array q = normed(qkv[0], layer.q_norm);
    const array k = normed(qkv[1], layer.k_norm);
    const array attended = ops_.attention(
        spec,
        ops_.rope(rope, q, batch.positions),
        ops_.rope(rope, k, batch.positions),
        qkv[2],
        cache,
        index,
        batch);
    return ops_.linear(layer.o, attended);
  }

  array
  mlp(const Layer& layer, int index, const array& x, ExpertSource& experts) {
    if (const auto* sparse = std::get_if<SparseMlp>(&layer.mlp)) {
      return experts.forward(
          index,
          x,
          ops_.route(
              ops_.linear(sparse->router, x),
              config_.shape.experts_per_token,
              config_.normalize_weights));
    }
    return ops_.mlp(std::get<ops::SwigluMlp>(layer.mlp), x);
  }

  const Config config_;
  ops::Ops& ops_;
  Linear embedding_;
  array norm_;
  std::vector<Layer> layers_;
  std::optional<Linear> head_;
};

} // namespace

ModelShape qwen3_moe_shape(const std::string& config_json) {
  return read_config(config_json).shape;
}

std::unique_ptr<Model> make_qwen3_moe(
    const std::string& config_json,
    ops::Ops& ops,
    WeightSource& weights) {
  return std::make_unique<Qwen3Moe>(read_config(config_json), ops, weights);
}

} // namespace mlx_flash
