// One request for embeddings on its way: has a worker make tokens of the
// inputs, and embeds some of them at a time, so that they share the engine's
// steps, until all are done.
//
// Thread rule: as JobRun.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "server/embedding_job.h"
#include "server/job_run.h"

namespace mlx_flash::server {

class EmbeddingRun : public JobRun {
 public:
  // Embeds `at_once` inputs at a time. `over`: as JobRun.
  EmbeddingRun(
      std::shared_ptr<RunServices> services,
      EmbeddingJob job,
      size_t at_once,
      double received,
      std::shared_ptr<EmbeddingSink> sink,
      Over over);

 private:
  using Inputs = std::vector<std::vector<TokenId>>;

  void check(const ServedModel& model) const override;
  std::function<void()> prepare(ModelLease& lease) override;
  void tell_error(const ApiError& error) override;
  std::vector<std::shared_ptr<Session>> close() override;

  void take_inputs(std::shared_ptr<const Inputs> inputs);
  void start_next(size_t session);
  void take(
      size_t session,
      size_t input,
      const std::vector<float>& embedding,
      const std::exception_ptr& error);

  EmbeddingJob job_;
  const size_t at_once_;
  std::shared_ptr<EmbeddingSink> sink_; // null after the end

  std::shared_ptr<const Inputs> inputs_;
  std::vector<std::shared_ptr<Session>> sessions_;
  size_t started_ = 0; // of the inputs
  size_t done_ = 0;
};

} // namespace mlx_flash::server
