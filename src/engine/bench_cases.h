// Which measurements a bench makes: what was asked for, or the usual ones as
// far as the model and the memory allow.
//
// Thread rule: free functions without state.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mlx_flash/bench.h"

namespace mlx_flash {

struct BenchCases {
  std::vector<BenchCase> cases; // at least one
  std::vector<std::string> notes; // of each that was cut or left out
};

// `context_tokens` is the most that a session can hold, `plan_for` the plan of
// an engine with room for so many tokens. Throws Error(invalid_argument) for
// what was asked for and is longer, Error(out_of_budget) for what does not fit
// the memory.
BenchCases choose_cases(
    const BenchOptions& options,
    uint64_t context_tokens,
    const std::function<Plan(uint64_t room_tokens)>& plan_for);

} // namespace mlx_flash
