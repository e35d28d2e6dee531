// The model that is being served: which of those that the server knows is
// loaded, who uses it, and how it is exchanged for another. At most one is in
// memory; it is loaded when it is asked for, let go when it was not used for
// as long as it is kept, and exchanged once nobody uses it any more.
//
// Thread rule: all methods from any thread. Callbacks come on the loop.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "mlx_flash/engine.h"
#include "server/api_error.h"
#include "server/loop.h"
#include "server/server_options.h"

namespace mlx_flash::server {

// A use of a loaded model; it stays as long as there is one.
class ModelLease {
 public:
  virtual ~ModelLease() = default;
  virtual Engine& engine() const = 0;
  virtual const ServedModel& model() const = 0;
  // How long it stays after this use, instead of what is configured; negative:
  // until another is asked for.
  virtual void keep(double seconds) = 0;
};

struct ModelStatus {
  enum class State { released, loading, ready, failed };
  State state = State::released;
  std::string name; // which one
  std::string error; // why it could not be loaded
  double loading_seconds = 0; // so far, or how long it took
  std::optional<double> seconds_left; // until it is let go
  size_t users = 0;
  size_t waiting = 0;
};

class ModelHost {
 public:
  ModelHost(const ServerOptions& options, Loop& loop);
  ~ModelHost();

  // Begins to load the first model.
  void begin();

  // The model of that name or alias; empty: the one that is loaded, else the
  // first. Exactly one of both is called; loads the model if need be. Throws
  // ApiError(not_found) for a name that is not known, with those that are.
  // While as many wait as may, it fails with ApiError(unavailable).
  //
  // Returns what withdraws the wish of somebody who is gone: then neither is
  // called any more, unless it is on its way. Any thread, at any time.
  [[nodiscard]] Task acquire(
      const std::string& name,
      std::function<void(std::shared_ptr<ModelLease>)> ready,
      std::function<void(const ApiError&)> failed);
  // The same of what is loaded now, or null. Never waits.
  std::shared_ptr<ModelLease> current();

  // Lets go of the model as soon as nobody uses it. Whoever asks for it until
  // then still gets it; after that, acquire() loads it again.
  void release();
  // Loads another; as acquire() without using it.
  [[nodiscard]] Task switch_to(
      const std::string& name,
      std::function<void()> ready,
      std::function<void(const ApiError&)> failed);

  // No new uses from here on: acquire() fails with ApiError(unavailable).
  void close();

  ModelStatus status() const;
  const std::vector<ServedModel>& models() const;
  // Null for a name that is not known.
  const ServedModel* find(const std::string& name) const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

} // namespace mlx_flash::server
