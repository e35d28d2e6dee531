// What a job's wishes mean for an answer of the model that is loaded: sampling
// over the model's defaults, how long it may get, and what constrains it.
//
// Thread rule: any thread. Compiling a grammar takes its time.
#pragma once

#include "mlx_flash/engine.h"
#include "server/job.h"
#include "server/prompt.h"

namespace mlx_flash::server {

// Of all choices alike, but for the seed. `max_tokens` is 0 where nothing is
// to be generated. Throws ApiError; where the grammar of the answer cannot be
// compiled it names the field that is wrong, and says why.
GenerationOptions
answer_options(const Job& job, const Prompt& prompt, const Engine& engine);

// Whether calls of tools are looked for in the answer.
bool may_call_tools(const Job& job, const Prompt& prompt);

} // namespace mlx_flash::server
