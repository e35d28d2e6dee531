// The second half of a run: from the sessions of its choices to the end.
#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "server/generation_run.h"

namespace mlx_flash::server {

void GenerationRun::start_choice(size_t index) {
  ++started_;
  Choice& choice = choices_[index];
  try {
    choice.session = open_session(*lease_);
  } catch (...) {
    fail(to_api_error(std::current_exception()));
    return;
  }
  GenerationOptions options = options_;
  options.sampling.seed += index;
  const auto inbox = std::make_shared<GenerationInbox>(
      services_->loop,
      [this, weak = weak_from_this(), index](
          const std::vector<GenerationEvent>& events) {
        if (const auto alive = weak.lock()) {
          take(index, events);
        }
      });
  services_->sessions->post([this,
                             self = shared_from_this(),
                             session = choice.session,
                             prompt = prompt_,
                             options = std::move(options),
                             inbox] {
    try {
      go_on();
      session->start(prompt->tokens, options, inbox);
    } catch (...) {
      end_with(to_api_error(std::current_exception()));
    }
  });
}

// Once the first one's prompt has been read, so that they need not read it.
void GenerationRun::start_others() {
  while (!is_over() && started_ < choices_.size()) {
    start_choice(started_);
  }
}

void GenerationRun::take(
    size_t choice,
    const std::vector<GenerationEvent>& events) {
  for (const GenerationEvent& event : events) {
    if (is_over()) {
      return;
    }
    switch (event.kind) {
      case GenerationEvent::Kind::progress:
        if (choice == 0) {
          take_progress(event.progress, event.time);
        }
        break;
      case GenerationEvent::Kind::text:
        take_text(choice, event);
        break;
      case GenerationEvent::Kind::end:
        take_end(choice, event);
        break;
    }
  }
}

void GenerationRun::take_progress(
    const GenerationProgress& progress,
    double time) {
  const PromptProgress told = meter_.update(progress, time);
  const bool waits = told.queue_position > 0;
  if (!waits && !times_.reading) {
    times_.reading = time;
  }
  usage_.cached_tokens = told.cached_tokens;
  change_status([&](Generations::Running& status) {
    status.progress = told;
    status.state = waits ? "queued" : "prompt";
  });
  tell([&] { sink_->on_progress(told); });
  if (!waits && told.prompt_read >= told.prompt_tokens) {
    start_others();
  }
}

void GenerationRun::take_text(size_t index, const GenerationEvent& event) {
  start_others();
  if (is_over()) {
    return;
  }
  Choice& choice = choices_[index];
  if (!event.tokens.empty()) {
    if (choice.last_time > 0) {
      services_->metrics.observe_token_gap(event.time - choice.last_time);
    }
    choice.last_time = event.time;
    times_.reading = times_.reading.value_or(event.time);
    times_.first_token = times_.first_token.value_or(event.time);
    times_.last_token = event.time;
    change_status([&](Generations::Running& status) {
      status.state = "decoding";
      status.completion_tokens += event.tokens.size();
    });
  }
  tell_parts(index, choice.answer->push(event.text, event.tokens));
}

void GenerationRun::take_end(size_t index, const GenerationEvent& event) {
  if (event.error) {
    fail(*event.error);
    return;
  }
  if (event.result.finish_reason == FinishReason::cancelled) {
    fail(ApiError(
        ApiErrorKind::unavailable, "the model was closed; try again later"));
    return;
  }
  start_others();
  if (is_over()) {
    return;
  }
  if (index == 0) {
    usage_.cached_tokens = event.result.cached_tokens;
  }
  remember(event.result);
  tell_parts(index, choices_[index].answer->finish(event.result));
  end_choice(index);
}

void GenerationRun::tell_parts(size_t choice, std::vector<AnswerPart> parts) {
  for (AnswerPart& part : parts) {
    tell([&] { sink_->on_part(choice, std::move(part)); });
  }
}

void GenerationRun::end_choice(size_t index) {
  Choice& choice = choices_[index];
  choice.ended = true;
  const ChoiceEnd& end = choice.answer->end();
  usage_.completion_tokens += end.completion_tokens;
  usage_.reasoning_tokens += end.reasoning_tokens;
  if (choice.session) {
    services_->sessions->post(
        [lease = lease_, session = std::move(choice.session)]() mutable {
          session.reset();
        });
    choice.session = nullptr;
  }
  tell([&] { sink_->on_choice_end(index, end); });
  if (std::all_of(choices_.begin(), choices_.end(), [](const Choice& each) {
        return each.ended;
      })) {
    finish([&](const Timings& timings) { sink_->on_end(usage_, timings); });
  }
}

// For when the conversation is sent back. Where a grammar was complete the
// model did not have to end its turn, but the template will.
void GenerationRun::remember(const GenerationResult& result) {
  const Engine& engine = lease_->engine();
  if (!prompt_->is_conversation || !result.stop_string.empty() ||
      result.finish_reason != FinishReason::stop ||
      engine.end_tokens().empty()) {
    return;
  }
  const TokenId end = result.stop_token.value_or(engine.end_tokens().front());
  try {
    services_->replay.store(
        lease_->model().name,
        prompt_->text,
        prompt_->tokens,
        result.text,
        result.tokens,
        engine.text().piece(end));
  } catch (const std::exception& error) {
    log::warn("[request {}] {}", request_id_, error.what());
  }
}

} // namespace mlx_flash::server
