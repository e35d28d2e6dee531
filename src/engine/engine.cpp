// The public Engine over EngineCore.
#include "mlx_flash/engine.h"

#include <atomic>

#include "base/error.h"
#include "engine/engine_core.h"
#include "engine/session_front.h"

namespace mlx_flash {

namespace {

class EngineFront : public Engine {
 public:
  EngineFront(const EngineOptions& options, const EngineSeams& seams)
      : max_sessions_(options.max_sessions),
        core_(std::make_shared<EngineCore>(options, seams)) {}
  ~EngineFront() override {
    core_->close();
  }

  const Plan& plan() const override {
    return core_->plan();
  }
  Stats stats() const override {
    return core_->stats();
  }
  const Text& text() const override {
    return core_->text();
  }
  const SamplingOptions& default_sampling() const override {
    return core_->defaults().sampling;
  }
  uint64_t default_max_tokens() const override {
    return core_->defaults().max_new_tokens;
  }
  uint64_t vocab_size() const override {
    return static_cast<uint64_t>(core_->vocab_size());
  }

  const std::vector<TokenId>& end_tokens() const override {
    return core_->defaults().eos_tokens;
  }

  void check(const Constraint& constraint) const override {
    core_->grammars().check(constraint);
  }

  std::unique_ptr<Session> new_session() override {
    // One of the sessions that are counted, given back with its last owner.
    const std::shared_ptr<void> place(
        nullptr, [open = open_](void*) { --*open; });
    if (open_->fetch_add(1) >= max_sessions_) {
      fail(
          ErrorCode::invalid_argument,
          "[engine] {} sessions are open, which is the most; end one first",
          max_sessions_);
    }
    return std::make_unique<SessionFront>(core_, place);
  }

 private:
  const uint64_t max_sessions_;
  std::shared_ptr<std::atomic<uint64_t>> open_ =
      std::make_shared<std::atomic<uint64_t>>(0);
  std::shared_ptr<EngineCore> core_;
};

} // namespace

std::unique_ptr<Engine> open_engine(
    const EngineOptions& options,
    const EngineSeams& seams) {
  return std::make_unique<EngineFront>(options, seams);
}

std::unique_ptr<Engine> Engine::open(const EngineOptions& options) {
  return open_engine(options, {});
}

} // namespace mlx_flash
