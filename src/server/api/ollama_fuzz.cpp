// Any bytes as the body of each request of Ollama's API. What is accepted must
// be a job that can be done: a conversation that a template can be given,
// numbers within their ranges, durations that end or never do.
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "server/api/ollama_options.h"
#include "server/api/ollama_request.h"
#include "server/fields.h"

using namespace mlx_flash::server;

namespace {

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check_keep(const std::optional<double>& seconds) {
  require(!seconds || *seconds == -1 || (*seconds >= 0 && *seconds < 4e9));
}

void check(const OllamaRequest& request) {
  const Job& job = request.job;
  require(!request.model.empty() && job.choices == 1);
  require(job.sampling.top_k.value_or(0) >= 0);
  require(job.sampling.repetition_penalty.value_or(1) > 0);
  require(job.max_tokens.value_or(1) > 0);
  require(job.logprobs || job.top_logprobs == 0);
  check_keep(job.keep_seconds);
  for (const std::string& stop : job.stop_strings) {
    require(!stop.empty());
  }
  if (!job.constraint.source.empty()) {
    require(nlohmann::json::accept(job.constraint.source));
  }
  if (const auto* conversation = std::get_if<Conversation>(&job.prompt)) {
    require(nlohmann::json::accept(template_context(*conversation, {})));
  }
}

template <typename Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const ApiError& error) {
    require(error.kind() == ApiErrorKind::invalid_request);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ServerLimits limits;
  if (const auto seconds = parse_duration(text)) {
    require(std::abs(*seconds) < 4e9);
  }
  attempt([&] {
    const auto body = parse_body(text, {});
    attempt([&] { check(read_ollama_generate(body, limits)); });
    attempt([&] { check(read_ollama_chat(body, limits)); });
    attempt([&] { check_keep(read_ollama_embed(body, limits).keep_seconds); });
    attempt([&] { read_ollama_embeddings(body, limits); });
    attempt([&] { require(!read_ollama_show(body).empty()); });
  });
  return 0;
}
