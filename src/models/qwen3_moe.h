// Qwen3-MoE (model_type "qwen3_moe"): grouped-query attention with RMS-norm on
// each head's queries and keys, RoPE, and SwiGLU experts behind a softmax
// router; some layers may be dense. The oracle is mlx-lm's
// models/qwen3_moe.py.
#pragma once

#include <memory>
#include <string>

#include "models/model.h"

namespace mlx_flash {

ModelShape qwen3_moe_shape(const std::string& config_json);

std::unique_ptr<Model> make_qwen3_moe(
    const std::string& config_json,
    ops::Ops& ops,
    WeightSource& weights);

} // namespace mlx_flash
