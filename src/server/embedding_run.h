// One request for embeddings on its way: waits for the model, has a worker make
// tokens of the inputs, and embeds some of them at a time, so that they share
// the engine's steps, until all are done.
//
// Thread rule: all is done on the loop, but for what says otherwise.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/answer_times.h"
#include "server/embedding_job.h"
#include "server/generation_run.h"
#include "server/job_run.h"

namespace mlx_flash::server {

class EmbeddingRun : public JobRun,
                     public std::enable_shared_from_this<EmbeddingRun> {
 public:
  // Embeds `at_once` inputs at a time. `over` is called once, on the loop, when
  // nothing more will be told.
  EmbeddingRun(
      std::shared_ptr<RunServices> services,
      EmbeddingJob job,
      size_t at_once,
      double received,
      std::shared_ptr<EmbeddingSink> sink,
      std::function<void(const JobRun&)> over);

  void begin() override; // any thread
  void cancel() override; // any thread
  void end_with(const ApiError& error) override; // any thread
  void abandon() override;
  Generations::Running status() const override; // any thread

 private:
  using Inputs = std::vector<std::vector<TokenId>>;

  void limit_time();
  void take_lease(std::shared_ptr<ModelLease> lease);
  void take_inputs(Inputs inputs);
  void start_next(size_t session);
  void take(
      size_t session,
      size_t input,
      const std::vector<float>& embedding,
      const std::exception_ptr& error);
  void finish();
  void fail(const ApiError& error);
  void let_go();
  void log_end(const char* end) const;
  void set_state(const char* state);
  template <typename Say>
  void tell(const Say& say);
  template <typename Work>
  void on_loop(Work work);

  const std::shared_ptr<RunServices> services_;
  EmbeddingJob job_;
  const size_t at_once_;
  std::shared_ptr<EmbeddingSink> sink_; // null after the end
  const std::function<void(const JobRun&)> over_;
  std::atomic<bool> cancelled_ = false; // the sink is not called any more

  bool ended_ = false;
  std::shared_ptr<ModelLease> lease_;
  std::shared_ptr<const Inputs> inputs_;
  std::vector<std::shared_ptr<Session>> sessions_;
  size_t started_ = 0; // of the inputs
  size_t done_ = 0;
  Usage usage_;
  AnswerTimes times_;

  mutable std::mutex status_mutex_;
  Generations::Running status_;
};

} // namespace mlx_flash::server
