// From a job to the parts of its answers: waits for the model, renders and
// tokenizes the prompt, runs a session for each choice, tells reasoning,
// content and calls apart, and counts what was done. And from texts to their
// embeddings.
//
// Thread rule: all methods from any thread; sinks are called on the loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/embedding_job.h"
#include "server/job.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// A job that was begun.
class Generation {
 public:
  virtual ~Generation() = default;
  // Ends it without another word to its sink. After the end it does nothing.
  virtual void cancel() = 0;
};

class Generations {
 public:
  Generations(
      const ServerOptions& options,
      Loop& loop,
      Workers& workers,
      ModelHost& models,
      Metrics& metrics);
  ~Generations();

  // Throws ApiError(rate_limited) when as many wait as may, and
  // ApiError(invalid_request) for more choices than ever may; what is wrong
  // with the job otherwise is told to the sink.
  std::shared_ptr<Generation> start(
      Job job,
      double received, // now_seconds() of the request
      std::shared_ptr<AnswerSink> sink);

  // Throws ApiError(rate_limited) likewise: a request waits like as many
  // answers as it has inputs that are embedded at once.
  std::shared_ptr<Generation>
  embed(EmbeddingJob job, double received, std::shared_ptr<EmbeddingSink> sink);

  // How many tokens of the model that is leased a prompt of this conversation
  // would have. Takes time: for a worker. Throws ApiError and Error.
  uint64_t count_tokens(
      const Conversation& conversation,
      const ModelLease& lease) const;

  // Ends all with ApiError(unavailable).
  void cancel_all();
  size_t running() const;

  // For /status.
  struct Running {
    std::string request_id;
    std::string state; // "loading", "queued", "prompt", "decoding"
    double seconds = 0; // since the request was received
    PromptProgress progress;
    uint64_t completion_tokens = 0;
  };
  std::vector<Running> list() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

} // namespace mlx_flash::server
