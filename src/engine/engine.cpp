// The public Engine and Session over EngineCore.
#include "mlx_flash/engine.h"

#include <atomic>

#include "base/error.h"
#include "engine/engine_core.h"

namespace mlx_flash {

namespace {

constexpr int kMaxSessions = 64;

// One of the sessions that are counted; given back with its last owner.
using Place = std::shared_ptr<std::atomic<int>>;

class SessionFront : public Session {
 public:
  // `place` is of the sessions that may be open.
  SessionFront(std::weak_ptr<EngineCore> core, Place place)
      : core_(std::move(core)),
        place_(std::move(place)),
        timeline_(std::make_shared<Timeline>()) {
    call(make(Request::Kind::open));
  }

  ~SessionFront() override {
    try {
      call(make(Request::Kind::close));
    } catch (const Error&) {
      // The engine is closing, or gone, and takes its sequences with it.
    }
  }

  uint64_t length() const override {
    return timeline_->length;
  }

  GenerationResult generate(
      std::span<const TokenId> prompt,
      const GenerationOptions& options,
      const OnText& on_text) override {
    validate(options);
    auto request = make(Request::Kind::generate);
    request->tokens.assign(prompt.begin(), prompt.end());
    request->options = options;
    call(request, on_text);
    return std::move(request->result);
  }

  ScoreResult score(std::span<const TokenId> ids, int top) override {
    auto request = make(Request::Kind::score);
    request->tokens.assign(ids.begin(), ids.end());
    request->top = top;
    call(request);
    return std::move(request->score);
  }

  std::vector<float> extend(std::span<const TokenId> tokens, Logits which)
      override {
    auto request = make(Request::Kind::extend);
    request->all_logits = which == Logits::all;
    request->tokens.assign(tokens.begin(), tokens.end());
    call(request);
    return std::move(request->logits);
  }

  void rewind(uint64_t length) override {
    auto request = make(Request::Kind::rewind);
    request->rewind_length = length;
    call(request);
  }

  void cancel() override {
    std::lock_guard lock(mutex_);
    if (running_ && cancellable(*running_)) {
      running_->cancelled = true;
    } else {
      cancel_next_ = true;
    }
  }

 private:
  // Others are done at once.
  static bool cancellable(const Request& request) {
    return request.kind == Request::Kind::generate ||
        request.kind == Request::Kind::score ||
        request.kind == Request::Kind::extend;
  }

  std::shared_ptr<Request> make(Request::Kind kind) {
    auto request = std::make_shared<Request>();
    request->kind = kind;
    request->timeline = timeline_;
    return request;
  }

  // Hands the request over and waits for its end, passing text on.
  void call(
      const std::shared_ptr<Request>& request,
      const OnText& on_text = {}) {
    const Running running(*this, request);
    submit(request);
    try {
      wait(*request, on_text);
    } catch (...) {
      // From on_text: the engine must let go of the request first.
      request->cancelled = true;
      wait(*request, {});
      throw;
    }
    if (request->error) {
      std::rethrow_exception(request->error);
    }
  }

  void submit(const std::shared_ptr<Request>& request) {
    const auto core = core_.lock();
    if (!core) {
      fail(ErrorCode::internal, "[session] its engine has been closed");
    }
    core->submit(request);
  }

  // A session's call in progress, which cancel() is about.
  class Running {
   public:
    Running(SessionFront& session, const std::shared_ptr<Request>& request)
        : session_(session) {
      std::lock_guard lock(session.mutex_);
      if (session.running_ && request->kind != Request::Kind::close) {
        fail(
            ErrorCode::invalid_argument,
            "[session] is busy with another call; wait for its end, or open "
            "another session");
      }
      if (cancellable(*request)) {
        request->cancelled = std::exchange(session.cancel_next_, false);
      }
      session.running_ = request;
    }
    ~Running() {
      std::lock_guard lock(session_.mutex_);
      session_.running_ = nullptr;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    SessionFront& session_;
  };

  static void wait(Request& request, const OnText& on_text) {
    std::unique_lock lock(request.mutex);
    bool done = false;
    while (!done) {
      request.changed.wait(
          lock, [&] { return request.done || !request.text.empty(); });
      done = request.done;
      const std::string text = std::exchange(request.text, {});
      if (text.empty() || !on_text) {
        continue;
      }
      lock.unlock();
      if (!on_text(text)) {
        request.cancelled = true;
      }
      lock.lock();
    }
  }

  const std::weak_ptr<EngineCore> core_; // expired: the engine is gone
  const Place place_;
  std::shared_ptr<Timeline> timeline_;
  std::mutex mutex_;
  std::shared_ptr<Request> running_;
  bool cancel_next_ = false;
};

class EngineFront : public Engine {
 public:
  EngineFront(const EngineOptions& options, const EngineSeams& seams)
      : core_(std::make_shared<EngineCore>(options, seams)) {}
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

  std::unique_ptr<Session> new_session() override {
    const Place place(
        open_.get(), [open = open_](std::atomic<int>* count) { --*count; });
    if (open_->fetch_add(1) >= kMaxSessions) {
      fail(
          ErrorCode::invalid_argument,
          "[engine] {} sessions are open, which is the most; end one first",
          kMaxSessions);
    }
    return std::make_unique<SessionFront>(core_, place);
  }

 private:
  std::shared_ptr<std::atomic<int>> open_ =
      std::make_shared<std::atomic<int>>(0);
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
