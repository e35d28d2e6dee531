// The parts of a request of Ollama's API that say how to generate: `options`,
// `format`, `think` and `keep_alive`, as https://github.com/ollama/ollama
// describes them in docs/api.md and docs/modelfile.mdx. Whole bodies are read
// in ollama_request.h.
//
// All throw ApiError(invalid_request) that names the field.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct OllamaOptions {
  SamplingWishes sampling{};
  std::optional<uint64_t> max_tokens{}; // num_predict
  std::vector<std::string> stop_strings{};
  std::optional<uint64_t> context{}; // num_ctx: room that is asked for
};

// Of the field `options` of `body`, if it is there.
OllamaOptions read_ollama_options(Fields& body, const ServerLimits& limits);

// Of the field `format`: "json", or a JSON schema.
Constraint read_ollama_format(Fields& body, const ServerLimits& limits);

struct OllamaThink {
  std::optional<bool> wanted{}; // without: as the model's template has it
  std::string effort{}; // "low", "medium" or "high", or empty
};

// Of the field `think`.
OllamaThink read_ollama_think(Fields& body);

// Of the field `keep_alive`, in seconds; negative: as long as the server runs.
std::optional<double> read_ollama_keep_alive(Fields& body);

// "5m", "1h30m", "1.5h", "-1", "300" in seconds; a number without a unit is of
// seconds. Empty for what is none, or lasts longer than a hundred years.
std::optional<double> parse_duration(std::string_view text);

} // namespace mlx_flash::server
