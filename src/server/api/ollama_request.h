// What bodies of Ollama's API ask for, as jobs. The names of models are as
// clients wrote them; ollama_models.h knows which model that is.
//
// Refused by name, because they cannot be honoured: `template`, `suffix`,
// `images`, `context` (which no answer of ours has: /api/chat takes the
// conversation itself), and a `truncate` or `shift` that is true, for nothing
// is cut out of a prompt here.
//
// All throw ApiError(invalid_request) that names the field.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

enum class OllamaKind { generate, chat };

struct OllamaRequest {
  OllamaKind kind = OllamaKind::chat;
  std::string model; // as it was asked for: answers repeat it
  bool stream = true;
  // Nothing is to be generated: the model is to be loaded, or with a
  // `keep_seconds` of 0 to be let go.
  bool load_only = false;
  // What the model must be able to do.
  std::optional<uint64_t> context{}; // room for so many tokens
  bool must_think = false;
  bool must_call = false;
  Job job{}; // without its request_id and model
};

OllamaRequest read_ollama_generate(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits);
OllamaRequest read_ollama_chat(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits);

struct OllamaEmbedRequest {
  std::string model;
  std::vector<std::string> inputs{}; // none: the model is to be loaded
  bool truncate = true;
  std::optional<uint64_t> dimensions{};
  std::optional<double> keep_seconds{};
};

// Of /api/embed, and of the older /api/embeddings, which has one `prompt`.
OllamaEmbedRequest read_ollama_embed(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits);
OllamaEmbedRequest read_ollama_embeddings(
    const nlohmann::ordered_json& body,
    const ServerLimits& limits);

// The model that /api/show is asked about.
std::string read_ollama_show(const nlohmann::ordered_json& body);

} // namespace mlx_flash::server
