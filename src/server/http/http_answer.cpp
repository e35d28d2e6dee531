#include "server/http/http_answer.h"

#include <algorithm>
#include <utility>

#include "server/http/response_text.h"

namespace mlx_flash::server {

namespace {

bool may_have_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

} // namespace

HttpAnswer::HttpAnswer(
    Loop& loop,
    Form form,
    std::shared_ptr<UnsentBytes> unsent,
    Task on_output)
    : loop_(loop),
      unsent_(std::move(unsent)),
      on_output_(std::move(on_output)),
      form_(form) {}

HttpAnswer::~HttpAnswer() {
  unsent_->change(counted_, 0);
}

// With the lock.
void HttpAnswer::count() {
  const uint64_t before =
      std::exchange(counted_, pending_.size() + taken_ + held_);
  unsent_->change(before, counted_);
}

// With the lock. Too much waits for a client that does not read.
void HttpAnswer::overflow() {
  overflowed_ = true;
  std::string().swap(pending_); // with its memory
  held_ = 0;
}

// With the lock.
void HttpAnswer::tell() {
  count();
  if (!std::exchange(told_, true)) {
    loop_.post(on_output_);
  }
}

// With the lock. The head, and the body as far as it is there.
void HttpAnswer::start(const HttpResponse& response, bool whole) {
  const bool body = may_have_body(response.status);
  bodiless_ = !body || form_.head_only;
  ResponseForm form;
  form.http_1_1 = form_.http_1_1;
  if (!body) {
    form.framing = Framing::none;
  } else if (!whole) {
    form.framing = form_.http_1_1 ? Framing::chunked : Framing::close;
  }
  // A body that ends with the connection ends it; one that is not sent does
  // not need to. Who may not ask does not keep a connection.
  form_.keep_alive &= form.framing != Framing::close || form_.head_only;
  form_.keep_alive &= response.status != 401 && response.status != 403;
  form.keep_alive = form_.keep_alive;
  chunked_ = form.framing == Framing::chunked;
  pending_ += response_head(response, form);
  if (!bodiless_ && chunked_) {
    append_chunk(pending_, response.body);
  } else if (!bodiless_) {
    pending_ += response.body;
  }
  step_ = Step::begun;
}

// With the lock.
void HttpAnswer::finish(bool whole) {
  if (chunked_ && !bodiless_ && whole) {
    pending_ += kLastChunk;
  }
  step_ = Step::ended;
  held_ = 0;
}

// With the lock.
bool HttpAnswer::has_room_for(const HttpResponse& response) const {
  return unsent_->has_room_for(
      response.body.size(), counted_, response.any_size);
}

bool HttpAnswer::has_room(const HttpResponse& response) const {
  std::lock_guard lock(mutex_);
  return has_room_for(response);
}

bool HttpAnswer::hold(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (step_ == Step::ended || gone()) {
    return true; // nobody will read it
  }
  const uint64_t all = pending_.size() + taken_ + bytes;
  if (bytes > held_ && !unsent_->has_room_for(all, counted_)) {
    return false;
  }
  held_ = bytes;
  count();
  return true;
}

void HttpAnswer::send(HttpResponse response) {
  std::vector<std::function<void()>> callbacks; // destroyed without the lock
  std::lock_guard lock(mutex_);
  if (step_ != Step::waiting || gone()) {
    return;
  }
  if (has_room_for(response)) {
    start(response, true);
    finish(true);
    callbacks.swap(callbacks_);
  } else {
    overflow();
  }
  tell();
}

void HttpAnswer::begin(HttpResponse response) {
  std::lock_guard lock(mutex_);
  if (step_ != Step::waiting || gone()) {
    return;
  }
  if (unsent_->has_room(0, response.body.size(), counted_)) {
    start(response, false);
  } else {
    overflow();
  }
  tell();
}

void HttpAnswer::write(std::string_view part) {
  std::lock_guard lock(mutex_);
  if (step_ != Step::begun || gone() || bodiless_) {
    return;
  }
  if (!unsent_->has_room(pending_.size() + taken_, part.size(), counted_)) {
    overflow();
  } else if (chunked_) {
    append_chunk(pending_, part);
  } else {
    pending_ += part;
  }
  tell();
}

void HttpAnswer::end() {
  std::vector<std::function<void()>> callbacks;
  std::lock_guard lock(mutex_);
  if (step_ != Step::begun || gone()) {
    return;
  }
  finish(true);
  callbacks.swap(callbacks_);
  tell();
}

void HttpAnswer::abandon() {
  HttpResponse response;
  response.status = 500;
  response.content_type = "text/plain";
  response.body = "the server has made no answer\n";
  std::vector<std::function<void()>> callbacks;
  std::lock_guard lock(mutex_);
  callbacks.swap(callbacks_);
  if (step_ == Step::ended || gone()) {
    return;
  }
  if (step_ == Step::waiting) {
    start(response, true);
  } else {
    form_.keep_alive = false;
  }
  finish(false);
  tell();
}

void HttpAnswer::on_disconnect(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (step_ == Step::ended) {
      return;
    }
    if (!disconnected_) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  loop_.post(std::move(callback));
}

std::string HttpAnswer::take() {
  std::lock_guard lock(mutex_);
  told_ = false;
  taken_ += pending_.size();
  return std::exchange(pending_, {});
}

void HttpAnswer::sent(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  taken_ -= std::min(taken_, bytes);
  count();
}

bool HttpAnswer::complete() const {
  std::lock_guard lock(mutex_);
  return step_ == Step::ended && pending_.empty();
}

bool HttpAnswer::overflowed() const {
  std::lock_guard lock(mutex_);
  return overflowed_;
}

bool HttpAnswer::keep_alive() const {
  std::lock_guard lock(mutex_);
  return form_.keep_alive;
}

void HttpAnswer::forbid_keep_alive() {
  std::lock_guard lock(mutex_);
  form_.keep_alive = false;
}

void HttpAnswer::disconnect() {
  std::vector<std::function<void()>> callbacks;
  {
    std::lock_guard lock(mutex_);
    disconnected_ = true;
    std::string().swap(pending_);
    taken_ = 0;
    held_ = 0;
    count();
    callbacks.swap(callbacks_);
  }
  // Without the lock: a loop that has ended destroys what it is given, and
  // with it perhaps the last holder of the exchange.
  for (std::function<void()>& callback : callbacks) {
    loop_.post(std::move(callback));
  }
}

} // namespace mlx_flash::server
