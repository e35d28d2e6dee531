// What a run tells about itself on standard error, as text. Pure functions;
// when and where they are shown is decided by the commands.
#pragma once

#include <cstdint>
#include <string>

#include "mlx_flash/plan.h"
#include "mlx_flash/stats.h"

namespace mlx_flash::cli {

// "tiny-tales-moe: 11.9 MB of weights, room for 96 of 192 experts, budget
// 12.0 MB (--memory)".
std::string loaded_line(const Plan& plan);

// While the prompt is read: "prompt 512 of 2048 tokens, 120.0 tok/s".
std::string prefill_line(const Stats& stats, uint64_t prompt_tokens);

// While text is generated: tokens, rate, hit rate, bytes read per token,
// memory against budget, all of decoding alone.
// The answer's first token comes from the prompt's last step, so there is one
// more than were decoded.
std::string decode_line(const Stats& stats, uint64_t answer_tokens);

// At the end: the same, and the prompt's.
std::string summary_line(const Stats& end, uint64_t answer_tokens);

} // namespace mlx_flash::cli
