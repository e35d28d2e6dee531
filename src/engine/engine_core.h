// The composition root: from options to a plan, to objects, to a loop on the
// engine thread. The public Engine and Session are thin fronts of it.
//
// Thread rule: constructed, used through submit(), and destroyed on any
// thread; everything it owns belongs to the engine thread, except what is
// marked as immutable after construction.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "base/bounded_queue.h"
#include "engine/engine_thread.h"
#include "engine/grammars.h"
#include "engine/model_text.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/streamed_experts.h"
#include "generate/generation_defaults.h"
#include "mlx_flash/engine.h"
#include "platform/memory_watch.h"
#include "residency/memory_budget.h"
#include "storage/checksums.h"
#include "storage/page_store.h"

namespace mlx_flash {

// What tests replace; nothing of it is reachable from a command.
struct EngineSeams {
  // Makes the reader of weights instead of make_reader().
  std::function<std::unique_ptr<Reader>(const Checkpoint&)> make_reader;
  // Runs the GPU's operations on MLX's CPU back-end, in f32.
  bool mlx_ops_on_cpu = false;
};

class EngineCore {
 public:
  EngineCore(const EngineOptions& options, const EngineSeams& seams);
  ~EngineCore();

  // Cancels what is running and waits for the engine thread's end. Requests
  // are refused from here on.
  void close();

  const Plan& plan() const {
    return plan_;
  }
  const ModelText& text() const {
    return *text_;
  }
  const GenerationDefaults& defaults() const {
    return defaults_;
  }
  int vocab_size() const {
    return shape_.vocab;
  }
  Stats stats() const;
  Grammars& grammars() {
    return *grammars_;
  }

  // Hands a request to the engine thread. Throws Error(internal) once the
  // engine is closing.
  void submit(std::shared_ptr<Request> request);

 private:
  // Everything that is made, used and destroyed on the engine thread.
  struct Machine;

  void charge_planned();
  void open_page_store();
  void serve(Machine& machine);
  void publish(const Machine& machine, const Stats& work);

  const EngineOptions options_;
  const EngineSeams seams_;
  Checkpoint checkpoint_;
  ExpertLayout layout_;
  ModelShape shape_;
  Plan plan_;
  uint64_t header_bytes_ = 0; // of the weight files
  MemoryBudget budget_;
  std::vector<MemoryBudget::Charge> charges_;
  std::shared_ptr<const ModelText> text_;
  GenerationDefaults defaults_;
  EmbeddingForm embedding_;
  std::optional<Grammars> grammars_;
  std::optional<ChecksumTable> checksums_;
  std::optional<PageStore> page_store_; // with a prompt cache

  mutable MemoryWatch memory_watch_;
  mutable std::mutex stats_mutex_;
  Stats stats_;
  // Calls in flight; sessions wait for theirs, so this bounds the queue too.
  static constexpr size_t kQueueCapacity = 256;
  BoundedQueue<std::shared_ptr<Request>> queue_{kQueueCapacity};
  std::atomic<bool> closing_ = false;
  std::unique_ptr<EngineThread> thread_;
};

std::unique_ptr<Engine> open_engine(
    const EngineOptions& options,
    const EngineSeams& seams);

} // namespace mlx_flash
