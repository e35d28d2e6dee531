// The public Session over EngineCore: calls become requests.
#pragma once

#include <memory>
#include <mutex>

#include "engine/engine_core.h"
#include "mlx_flash/session.h"

namespace mlx_flash {

class SessionFront : public Session {
 public:
  // `place` is held as long as the session is open.
  SessionFront(std::weak_ptr<EngineCore> core, std::shared_ptr<void> place)
      : core_(std::move(core)), place_(std::move(place)) {}
  ~SessionFront() override;

  uint64_t length() const override {
    return timeline_->length;
  }

  GenerationResult generate(
      std::span<const TokenId> prompt,
      const GenerationOptions& options,
      const OnText& on_text) override;
  void start(
      std::vector<TokenId> prompt,
      const GenerationOptions& options,
      std::shared_ptr<GenerationListener> listener) override;
  ScoreResult score(std::span<const TokenId> ids, int top) override;
  void start_embedding(std::vector<TokenId> tokens, OnEmbedding on_end)
      override;
  std::vector<float> extend(std::span<const TokenId> tokens, Logits which)
      override;
  void rewind(uint64_t length) override;
  void cancel() override;

 private:
  // The call in progress, which cancel() is about. It may outlive the session.
  struct Calls {
    std::mutex mutex;
    std::shared_ptr<Request> running;
    bool cancel_next = false;

    // Throws Error(invalid_argument) while there is another.
    void begin(const std::shared_ptr<Request>& request);
    void end();
  };
  class Waiter;
  class Forwarder;
  class EmbeddingEnd;

  std::shared_ptr<Request> make(Request::Kind kind) const;
  std::shared_ptr<Request> make_generation(
      std::vector<TokenId> prompt,
      const GenerationOptions& options) const;
  void begin(const std::shared_ptr<Request>& request) const;
  void call(
      const std::shared_ptr<Request>& request,
      const OnText& on_text = {});
  void submit(const std::shared_ptr<Request>& request) const;
  std::shared_ptr<EngineCore> engine() const;

  const std::weak_ptr<EngineCore> core_; // expired: the engine is gone
  const std::shared_ptr<void> place_;
  const std::shared_ptr<Timeline> timeline_ = std::make_shared<Timeline>();
  const std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();
};

} // namespace mlx_flash
