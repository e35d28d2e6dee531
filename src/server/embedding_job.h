// What a request wants embeddings of, in no dialect's form, and what hears of
// them. generations.h does the work.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "mlx_flash/generation.h"
#include "server/api_error.h"
#include "server/job.h"

namespace mlx_flash::server {

struct EmbeddingJob {
  std::string request_id; // for logs
  std::string model; // as the request names it; empty: the one that is loaded

  // Texts, or their tokens; at least one.
  std::vector<std::variant<std::string, std::vector<TokenId>>> inputs;
  std::string field = "input"; // where they are, for errors
  std::optional<uint64_t> dimensions{}; // that the vectors must have
  bool truncate = false; // what is longer than the context, at its end
  std::optional<double> keep_seconds{}; // as in Job
};

struct EmbeddingsEnd {
  std::string model; // its name
  uint64_t prompt_tokens = 0; // of all inputs
  Timings timings{};
};

// Hears of each embedding once, in any order, and of the end; or, at any time,
// an error instead of all that would follow.
//
// Thread rule: called on the loop.
class EmbeddingSink {
 public:
  virtual ~EmbeddingSink() = default;

  virtual void on_embedding(size_t input, std::span<const float> values) = 0;
  virtual void on_end(const EmbeddingsEnd& end) = 0;
  virtual void on_error(const ApiError& error) = 0;
};

} // namespace mlx_flash::server
