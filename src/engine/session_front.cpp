#include "engine/session_front.h"

#include <condition_variable>

#include "base/error.h"

namespace mlx_flash {

namespace {

// Others are done at once.
bool cancellable(const Request& request) {
  return request.kind == Request::Kind::generate ||
      request.kind == Request::Kind::score ||
      request.kind == Request::Kind::embed ||
      request.kind == Request::Kind::extend;
}

} // namespace

void SessionFront::Calls::begin(const std::shared_ptr<Request>& request) {
  std::lock_guard lock(mutex);
  if (running) {
    fail(
        ErrorCode::invalid_argument,
        "[session] is busy with another call; wait for its end, or open "
        "another session");
  }
  if (cancellable(*request)) {
    request->cancelled = std::exchange(cancel_next, false);
  }
  running = request;
}

void SessionFront::Calls::end() {
  std::lock_guard lock(mutex);
  running = nullptr;
}

// Hands text over from the engine's thread to the one that waits for it.
class SessionFront::Waiter : public RequestListener {
 public:
  void on_text(std::string_view text, std::span<const ChosenToken>) override {
    if (text.empty()) {
      return;
    }
    std::lock_guard lock(mutex_);
    text_ += text;
    changed_.notify_all();
  }

  void on_end(Request&) override {
    std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

  // Until the end, passing text on; `cancel` where that is not wanted.
  void wait(const OnText& on_text, std::atomic<bool>& cancel) {
    std::unique_lock lock(mutex_);
    bool done = false;
    while (!done) {
      changed_.wait(lock, [&] { return done_ || !text_.empty(); });
      done = done_;
      const std::string text = std::exchange(text_, {});
      if (text.empty() || !on_text) {
        continue;
      }
      lock.unlock();
      if (!on_text(text)) {
        cancel = true;
      }
      lock.lock();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_; // generated and not yet taken
  bool done_ = false;
};

// Passes on what the caller of start() wants to hear.
class SessionFront::Forwarder : public RequestListener {
 public:
  Forwarder(
      std::shared_ptr<Calls> calls,
      std::shared_ptr<GenerationListener> listener)
      : calls_(std::move(calls)), listener_(std::move(listener)) {}

  void on_progress(const GenerationProgress& progress) override {
    listener_->on_progress(progress);
  }

  void on_text(std::string_view text, std::span<const ChosenToken> tokens)
      override {
    listener_->on_text(text, tokens);
  }

  void on_end(Request& request) override {
    calls_->end(); // from now on the session can be called again
    listener_->on_end(std::move(request.result), request.failure);
  }

 private:
  const std::shared_ptr<Calls> calls_;
  const std::shared_ptr<GenerationListener> listener_;
};

// Passes on what the caller of start_embedding() wants to hear.
class SessionFront::EmbeddingEnd : public RequestListener {
 public:
  EmbeddingEnd(std::shared_ptr<Calls> calls, OnEmbedding on_end)
      : calls_(std::move(calls)), on_end_(std::move(on_end)) {}

  void on_end(Request& request) override {
    calls_->end();
    on_end_(std::move(request.embedding), request.failure);
  }

 private:
  const std::shared_ptr<Calls> calls_;
  const OnEmbedding on_end_;
};

SessionFront::~SessionFront() {
  try {
    submit(make(Request::Kind::close));
  } catch (const Error&) {
    // The engine is closing, or gone, and takes its sequences with it.
  }
}

GenerationResult SessionFront::generate(
    std::span<const TokenId> prompt,
    const GenerationOptions& options,
    const OnText& on_text) {
  const auto request = make_generation({prompt.begin(), prompt.end()}, options);
  call(request, on_text);
  return std::move(request->result);
}

void SessionFront::start(
    std::vector<TokenId> prompt,
    const GenerationOptions& options,
    std::shared_ptr<GenerationListener> listener) {
  const auto request = make_generation(std::move(prompt), options);
  request->listener = std::make_shared<Forwarder>(calls_, std::move(listener));
  begin(request);
}

void SessionFront::start_embedding(
    std::vector<TokenId> tokens,
    OnEmbedding on_end) {
  const auto request = make(Request::Kind::embed);
  request->tokens = std::move(tokens);
  request->listener = std::make_shared<EmbeddingEnd>(calls_, std::move(on_end));
  begin(request);
}

ScoreResult SessionFront::score(std::span<const TokenId> ids, int top) {
  const auto request = make(Request::Kind::score);
  request->tokens.assign(ids.begin(), ids.end());
  request->top = top;
  call(request);
  return std::move(request->score);
}

std::vector<float> SessionFront::extend(
    std::span<const TokenId> tokens,
    Logits which) {
  const auto request = make(Request::Kind::extend);
  request->all_logits = which == Logits::all;
  request->tokens.assign(tokens.begin(), tokens.end());
  call(request);
  return std::move(request->logits);
}

void SessionFront::rewind(uint64_t length) {
  const auto request = make(Request::Kind::rewind);
  request->rewind_length = length;
  call(request);
}

void SessionFront::cancel() {
  std::lock_guard lock(calls_->mutex);
  if (calls_->running && cancellable(*calls_->running)) {
    calls_->running->cancelled = true;
  } else {
    calls_->cancel_next = true;
  }
}

std::shared_ptr<Request> SessionFront::make(Request::Kind kind) const {
  auto request = std::make_shared<Request>();
  request->kind = kind;
  request->timeline = timeline_;
  return request;
}

std::shared_ptr<Request> SessionFront::make_generation(
    std::vector<TokenId> prompt,
    const GenerationOptions& options) const {
  validate(options);
  auto request = make(Request::Kind::generate);
  request->tokens = std::move(prompt);
  request->options = options;
  engine()->grammars().check(options.constraint);
  return request;
}

// Hands the request over; its listener ends the call.
void SessionFront::begin(const std::shared_ptr<Request>& request) const {
  calls_->begin(request);
  try {
    submit(request);
  } catch (...) {
    calls_->end();
    throw;
  }
}

// Hands the request over and waits for its end, passing text on.
void SessionFront::call(
    const std::shared_ptr<Request>& request,
    const OnText& on_text) {
  const auto waiter = std::make_shared<Waiter>();
  request->listener = waiter;
  calls_->begin(request);
  const struct Ending {
    Calls& calls;
    ~Ending() {
      calls.end();
    }
  } ending{*calls_};
  submit(request);
  try {
    waiter->wait(on_text, request->cancelled);
  } catch (...) {
    // From on_text: the engine must let go of the request first.
    request->cancelled = true;
    waiter->wait({}, request->cancelled);
    throw;
  }
  if (request->failure) {
    std::rethrow_exception(request->failure);
  }
}

void SessionFront::submit(const std::shared_ptr<Request>& request) const {
  engine()->submit(request);
}

std::shared_ptr<EngineCore> SessionFront::engine() const {
  auto core = core_.lock();
  if (!core) {
    fail(ErrorCode::internal, "[session] its engine has been closed");
  }
  return core;
}

} // namespace mlx_flash
