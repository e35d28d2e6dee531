// One job on its way: waits for the model, has the prompt made by a worker,
// starts a session for each choice, and tells the sink what becomes of them.
// Which jobs there may be is up to generations.cpp.
//
// Thread rule: all is done on the loop, but for what says otherwise.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "server/answer.h"
#include "server/answer_times.h"
#include "server/background_thread.h"
#include "server/generation_inbox.h"
#include "server/generations.h"
#include "server/job_run.h"
#include "server/prompt.h"
#include "server/prompt_progress.h"
#include "server/replay.h"

namespace mlx_flash::server {

// What the runs of a server share. The threads are null once it is gone; no
// run asks for them by then.
struct RunServices {
  RunServices(
      const ServerOptions& all_options,
      Loop& a_loop,
      Workers& some_workers,
      ModelHost& a_host,
      Metrics& some_metrics,
      size_t replayed_answers,
      size_t replayed_bytes)
      : options(all_options),
        loop(a_loop),
        workers(some_workers),
        models(a_host),
        metrics(some_metrics),
        replay(replayed_answers, replayed_bytes) {}

  const ServerOptions& options;
  Loop& loop;
  Workers& workers;
  ModelHost& models;
  Metrics& metrics;
  Replay replay;
  // Starting a session may wait for the engine, and so may ending one.
  std::unique_ptr<BackgroundThread> sessions =
      std::make_unique<BackgroundThread>();
  // Scores of prompts, one after another.
  std::unique_ptr<BackgroundThread> scores =
      std::make_unique<BackgroundThread>();
};

class GenerationRun : public JobRun,
                      public std::enable_shared_from_this<GenerationRun> {
 public:
  // `over` is called once, on the loop, when nothing more will be told.
  GenerationRun(
      std::shared_ptr<RunServices> services,
      Job job,
      double received,
      std::shared_ptr<AnswerSink> sink,
      std::function<void(const GenerationRun&)> over);

  void begin() override; // any thread
  void cancel() override; // any thread
  void end_with(const ApiError& error) override; // any thread
  void abandon() override;

  Generations::Running status() const override; // any thread

 private:
  struct Choice {
    std::optional<Answer> answer{};
    std::shared_ptr<Session> session{};
    double last_time = 0; // of a token
    bool ended = false;
  };

  void take_lease(std::shared_ptr<ModelLease> lease);
  void take_prompt(Prompt prompt, const GenerationOptions& options);
  void begin_score();
  void take_score(const ScoreResult& score);
  void announce(JobStart start);
  void start_choice(size_t index);
  void start_others();

  void take(size_t choice, const std::vector<GenerationEvent>& events);
  void take_progress(const GenerationProgress& progress, double time);
  void take_text(size_t choice, const GenerationEvent& event);
  void take_end(size_t choice, const GenerationEvent& event);
  void tell_parts(size_t choice, std::vector<AnswerPart> parts);
  void end_choice(size_t choice);
  void remember(const GenerationResult& result);

  void finish();
  void fail(const ApiError& error);
  void give_up();
  void let_go();
  void log_end(const char* end, const Timings& timings) const;
  Usage usage_so_far() const;
  template <typename Say>
  void tell(const Say& say);
  template <typename Work>
  void on_loop(Work work);
  void set_state(const char* state);

  const std::shared_ptr<RunServices> services_;
  Job job_;
  std::shared_ptr<AnswerSink> sink_; // null after the end
  const std::function<void(const GenerationRun&)> over_;
  std::atomic<bool> cancelled_ = false; // the sink is not called any more

  bool ended_ = false;
  std::shared_ptr<ModelLease> lease_;
  std::shared_ptr<const Prompt> prompt_;
  GenerationOptions options_;
  std::shared_ptr<Session> scoring_;
  std::vector<Choice> choices_;
  size_t started_ = 0;
  PromptMeter meter_;
  AnswerTimes times_;
  Usage usage_;

  mutable std::mutex status_mutex_;
  Generations::Running status_;
};

template <typename Work>
void GenerationRun::on_loop(Work work) {
  services_->loop.post(
      [self = shared_from_this(), work = std::move(work)]() mutable {
        if (!self->ended_) {
          work(*self);
        }
      });
}

// A sink that throws has no use for more.
template <typename Say>
void GenerationRun::tell(const Say& say) {
  if (ended_ || cancelled_ || !sink_) {
    return;
  }
  try {
    say(*sink_);
  } catch (const std::exception& error) {
    log::warn("[request {}] {}", job_.request_id, error.what());
    cancel();
  }
}

} // namespace mlx_flash::server
