// The routes of each dialect. One file pair for each; router.h calls them.
#pragma once

#include <string>
#include <vector>

#include "server/api/context.h"

namespace mlx_flash::server {

// The form of errors, and of signs of life in a stream.
enum class Dialect { openai, anthropic, ollama };

// `error` as the body of a response of that dialect.
HttpResponse error_response(Dialect dialect, const ApiError& error);

struct Route {
  std::string method;
  // "{name}" is one part of a path, given to the handler as `argument`;
  // "{name...}" is all that is left.
  std::string path;
  Dialect dialect = Dialect::openai;
  // Called by a worker (`slow`: bodies are read, templates rendered) or on the
  // loop. What it throws is sent as the dialect's error. The request's body is
  // there until it returns.
  std::function<void(
      ApiContext& context,
      std::shared_ptr<HttpExchange> exchange,
      const std::string& argument)>
      handle;
  bool slow = false;
};

std::vector<Route> openai_chat_routes(); // /v1/chat/completions
std::vector<Route> openai_completions_routes(); // /v1/completions
std::vector<Route> openai_responses_routes(); // /v1/responses
std::vector<Route> openai_models_routes(); // /v1/models, /v1/embeddings
std::vector<Route> anthropic_routes(); // /v1/messages
std::vector<Route> ollama_routes(); // /api
std::vector<Route> own_routes(); // /health, /status, /tokenize, ...

} // namespace mlx_flash::server
