// What a ModelHost is inside: the wishes that wait, and the one model. The
// public side is model_host.cpp.
//
// Thread rule: all is done with the mutex held (Locked), but opening and
// destroying engines, which the background thread does without.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "server/background_thread.h"
#include "server/model_host.h"

namespace mlx_flash::server {

// Shared with leases and with tasks on their way, so that it may outlive the
// host.
struct ModelHost::State : std::enable_shared_from_this<ModelHost::State> {
  // What is asked for, in order: a use of a model, or that it be loaded.
  struct Wish {
    enum class Kind { use, load };
    Kind kind = Kind::use;
    const ServedModel* model = nullptr; // null: whichever is loaded
    std::function<void(std::shared_ptr<ModelLease>)> ready{};
    std::function<void(const ApiError&)> failed{};
    uint64_t number = 0; // by which it is withdrawn
  };
  class Lease;
  class Locked;

  State(const ServerOptions& options, Loop& a_loop)
      : models(with_room(options)),
        usual_keep(options.keep_seconds > 0 ? options.keep_seconds : -1),
        most_wishes(options.limits.parallel + options.limits.queue),
        open_engine(options.open_engine),
        loop(a_loop) {
    if (models.empty()) {
      fail(ErrorCode::invalid_argument, "[model] there is none to be served");
    }
  }

  static std::vector<ServedModel> with_room(const ServerOptions& options);
  const ServedModel* find(const std::string& name) const;
  ApiError unknown(const std::string& name) const;
  Task wish(Wish wish); // returns what withdraws it
  void withdraw(uint64_t number);
  void end_use(bool counts, std::optional<double> keep);
  void time_is_over(uint64_t expected);

  // All of these with the mutex held.
  void serve_wishes();
  bool serve(const Wish& wish);
  std::shared_ptr<Lease> use(bool counts);
  void begin_load(const ServedModel& model);
  void begin_unload();
  void release();
  void consider_letting_go();
  void keep_for_now();
  void refuse(Wish& wish, const ApiError& why);
  void fail_wishes(const ApiError& error, const ServedModel* model);

  // On the background thread.
  void load(const ServedModel& model);
  void unload();

  const std::vector<ServedModel> models;
  const double usual_keep; // seconds; negative: until another is asked for
  const uint64_t most_wishes; // that wait
  const std::function<std::unique_ptr<Engine>(const EngineOptions&)>
      open_engine;
  Loop& loop;

  mutable std::mutex mutex;
  enum class Phase { released, loading, ready, unloading, failed };
  Phase phase = Phase::released;
  const ServedModel* model = nullptr; // that is loaded, or was last
  std::unique_ptr<Engine> engine; // while ready
  std::deque<Wish> wishes;
  uint64_t wishes_so_far = 0;
  bool closed = false;
  std::string error;
  double loading_since = 0;
  double loading_seconds = 0;

  size_t users = 0;
  size_t counted_users = 0; // of these, those after whom the model is kept
  double keep = 0; // seconds, after the last of them
  bool released = false; // whatever uses say, until the next load
  bool keep_is_over = false; // it goes with its last user
  std::optional<double> let_go_at;
  uint64_t timer = 0; // the one that counts; earlier ones do nothing
  Task call_off_timer = [] {};
  std::vector<Task> told; // callbacks that the loop is to be given
  std::vector<Wish> withdrawn; // that are to be forgotten

  // Null once the host is gone: then nothing is loaded any more.
  std::unique_ptr<BackgroundThread> background =
      std::make_unique<BackgroundThread>();
};

// Holds the mutex. Callbacks are posted and forgotten without it, because with
// them leases may go: at once, where a loop has ended.
class ModelHost::State::Locked {
 public:
  explicit Locked(State& state) : state_(state), lock_(state.mutex) {}
  ~Locked() {
    std::vector<Task> tasks = std::exchange(state_.told, {});
    const std::vector<Wish> gone = std::exchange(state_.withdrawn, {});
    lock_.unlock();
    for (Task& each : tasks) {
      state_.loop.post(std::move(each));
    }
  }

 private:
  State& state_;
  std::unique_lock<std::mutex> lock_;
};

class ModelHost::State::Lease : public ModelLease {
 public:
  Lease(std::shared_ptr<State> state, bool counts)
      : state_(std::move(state)),
        engine_(*state_->engine),
        model_(*state_->model),
        counts_(counts) {}
  ~Lease() override {
    state_->end_use(counts_, keep_);
  }

  Engine& engine() const override {
    return engine_;
  }
  const ServedModel& model() const override {
    return model_;
  }
  void keep(double seconds) override {
    keep_ = seconds;
  }

 private:
  const std::shared_ptr<State> state_;
  Engine& engine_;
  const ServedModel& model_;
  const bool counts_; // as a use, after which the model is kept for a while
  std::optional<double> keep_;
};

} // namespace mlx_flash::server
