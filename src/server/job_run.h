// A request on its way, whatever its answer is made of: waits for the model,
// has a worker prepare what the engine will read, and ends once: finished,
// failed, or cancelled.
//
// Thread rule: all is done on the loop, but for what says otherwise.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "server/answer_times.h"
#include "server/generations.h"
#include "server/run_services.h"

namespace mlx_flash::server {

class JobRun : public Generation, public std::enable_shared_from_this<JobRun> {
 public:
  void begin(); // any thread
  void cancel() override; // any thread
  void end_with(const ApiError& error); // any thread
  // Without a word. Nothing else may be going on: the loop has stopped.
  void abandon();
  Generations::Running status() const; // any thread

 protected:
  // Called once, on the loop, when nothing more will be told.
  using Over = std::function<void(const JobRun&)>;
  // `received`: now_seconds() of the request.
  template <typename AnyJob>
  JobRun(
      std::shared_ptr<RunServices> services,
      const AnyJob& job,
      double received,
      Over over)
      : JobRun(
            std::move(services),
            job.request_id,
            job.model,
            job.keep_seconds,
            received,
            std::move(over)) {}

  // Whether that model can answer at all, before it is loaded for nothing.
  // Throws ApiError. Any thread.
  virtual void check(const ServedModel&) const {}
  // On a worker: makes ready what the engine will read, and calls go_on()
  // between parts that take long. What it returns is called on the loop. Throws
  // Error or ApiError.
  virtual std::function<void()> prepare(ModelLease& lease) = 0;
  virtual void tell_error(const ApiError& error) = 0;
  // Forgets the sink, and hands over the sessions that it has.
  virtual std::vector<std::shared_ptr<Session>> close() = 0;
  // For the log.
  virtual Usage usage_so_far() const {
    return usage_;
  }
  virtual std::string_view prompt_text() const {
    return {};
  }

  // Any thread. Not after the end.
  void on_loop(std::function<void()> work);
  // A sink that throws has no use for more; if it is an ApiError, but for that.
  template <typename Say>
  void tell(const Say& say);
  template <typename Change>
  void change_status(const Change& change);
  void set_state(const char* state);
  // `tell_end` is told how long all took.
  void finish(const std::function<void(const Timings&)>& tell_end);
  void fail(const ApiError& error);
  // The sink is not called any more. Any thread.
  bool is_over() const {
    return ended_ || cancelled_;
  }
  // Throws if it is over. Any thread.
  void go_on() const;
  // What the engine says against another one is no mistake of the request.
  static std::unique_ptr<Session> open_session(ModelLease& lease);

  const std::shared_ptr<RunServices> services_;
  const std::string request_id_;
  std::shared_ptr<ModelLease> lease_; // from prepare() on
  AnswerTimes times_;
  Usage usage_;

 private:
  JobRun(
      std::shared_ptr<RunServices> services,
      const std::string& request_id,
      const std::string& model,
      std::optional<double> keep_seconds,
      double received,
      Over over);
  void ask();
  void limit_time();
  void take_lease(std::shared_ptr<ModelLease> lease);
  void log_end(const char* end, const Timings& timings) const;
  void let_go();

  const std::string model_;
  const std::optional<double> keep_seconds_;
  const Over over_;
  Task withdraw_ = [] {}; // from those who wait for the model
  Task forget_limit_ = [] {}; // of its time
  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> ended_ = false;

  mutable std::mutex status_mutex_;
  Generations::Running status_;
};

template <typename Say>
void JobRun::tell(const Say& say) {
  if (is_over()) {
    return;
  }
  try {
    say();
  } catch (const ApiError& error) {
    fail(error);
  } catch (const std::exception& error) {
    log::warn("[request {}] {}", request_id_, error.what());
    cancel();
  }
}

template <typename Change>
void JobRun::change_status(const Change& change) {
  std::lock_guard lock(status_mutex_);
  change(status_);
}

} // namespace mlx_flash::server
