// Models as Ollama's API names and shows them: /api/tags, /api/ps, /api/show.
// Nothing here loads a model.
//
// Names are shown with a tag, as Ollama has it, for some clients add ":latest"
// to names without one before they look them up. "name" and "name:latest" are
// the same model.
//
// Thread rule: any thread; most functions read files of a model's folder.
#pragma once

#include <chrono>
#include <string>

#include "mlx_flash/plan.h"
#include "server/api/ollama_request.h"
#include "server/model_host.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// "qwen3" is shown as "qwen3:latest".
std::string shown_name(const std::string& name);

// Throws ApiError(not_found) for a name that no model has.
const ServedModel& find_ollama_model(
    const ModelHost& models,
    const std::string& name);

// What a model can do beside completing text.
struct ModelAbilities {
  bool tools = false;
  bool thinking = false;
};
ModelAbilities abilities_of(const std::string& chat_template);

// Throws ApiError(invalid_request) that names the field for what a model that
// is loaded cannot do.
void check_ollama_request(
    const OllamaRequest& request,
    const Plan& plan,
    const ModelAbilities& abilities);

// Bodies of responses.
std::string ollama_tags(const ModelHost& models);
std::string ollama_ps(
    ModelHost& models,
    std::chrono::system_clock::time_point now);
// `model` is one of the host's, and `name` what the request calls it.
std::string ollama_show(
    ModelHost& models,
    const ServedModel& model,
    const std::string& name);

} // namespace mlx_flash::server
