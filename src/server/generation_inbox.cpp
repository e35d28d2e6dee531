#include "server/generation_inbox.h"

#include <utility>

#include "base/clock.h"

namespace mlx_flash::server {

using Kind = GenerationEvent::Kind;

void GenerationInbox::on_progress(const GenerationProgress& progress) {
  GenerationEvent event{Kind::progress, now_seconds()};
  event.progress = progress;
  push(std::move(event));
}

void GenerationInbox::on_text(
    std::string_view text,
    std::span<const ChosenToken> tokens) {
  GenerationEvent event{Kind::text, now_seconds()};
  event.text = text;
  event.tokens.assign(tokens.begin(), tokens.end());
  push(std::move(event));
}

void GenerationInbox::on_end(
    GenerationResult result,
    std::exception_ptr error) {
  GenerationEvent event{Kind::end, now_seconds()};
  event.result = std::move(result);
  if (error) {
    event.error = to_api_error(error);
  }
  push(std::move(event));
}

void GenerationInbox::push(GenerationEvent event) {
  {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    if (events_.size() > 1) {
      return; // the loop is on its way
    }
  }
  loop_.post([self = shared_from_this()] { self->deliver(); });
}

void GenerationInbox::deliver() {
  std::vector<GenerationEvent> events;
  {
    std::lock_guard lock(mutex_);
    events.swap(events_);
  }
  take_(events);
}

} // namespace mlx_flash::server
