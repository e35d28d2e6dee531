// The JSON objects that commands print with --json. Other programs rely on
// their fields; what is added later must not rename them.
//
// All end with a newline. Text that is not UTF-8 has U+FFFD in its place.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mlx_flash/generation.h"
#include "mlx_flash/plan.h"
#include "mlx_flash/stats.h"

namespace mlx_flash::cli {

std::string
run_json(const GenerationResult& result, uint64_t seed, const Stats& stats);
// In parts: with many candidates the whole would be large.
void score_json(
    const ScoreResult& result,
    const Stats& stats,
    const std::function<void(const std::string&)>& write);
std::string plan_json(const Plan& plan);
std::string tokens_json(
    std::span<const TokenId> ids,
    const std::vector<std::string>& pieces);
std::string text_json(const std::string& text);

} // namespace mlx_flash::cli
