#include "engine/scheduler.h"

#include <mlx/transforms.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"

namespace mlx_flash {

namespace mx = ops::mx;
using Kind = Request::Kind;

namespace {

// Steps with fewer rows of prompts read nearly as many experts and are not much
// shorter.
constexpr int kLeastMixedRows = 16;

// Of each step: those who decode hardly notice, and everybody is listened to.
constexpr double kRestoreSeconds = 0.05;

// What fails does so before the step counts.
void compute_first(
    WantedRows& logits,
    WantedRows& states,
    const mx::array& hidden) {
  for (WantedRows* wanted : {&logits, &states}) {
    if (!wanted->rows().empty()) {
      wanted->values(0);
    }
  }
  if (logits.rows().empty() && states.rows().empty()) {
    mx::eval(hidden);
  }
}

std::unique_ptr<PrefixCache> make_prefixes(const SchedulerSetup& setup) {
  auto* pages = dynamic_cast<ops::PagedKvCache*>(setup.cache);
  return setup.keep_prefixes && pages
      ? std::make_unique<PrefixCache>(*pages, setup.page_store)
      : nullptr;
}

} // namespace

Scheduler::Scheduler(SchedulerSetup setup, AnswersSetup answers)
    : setup_(setup),
      kv_pages_(setup.cache->free_pages()),
      answers_(std::move(answers)),
      prefixes_(make_prefixes(setup)),
      admission_(
          *setup.cache,
          prefixes_.get(),
          setup.most_active,
          setup.most_constrained),
      mixed_rows_(std::min(setup.prefill_chunk, 4 * kLeastMixedRows)) {}

template <typename Visit>
void Scheduler::for_each_request(Visit visit) {
  for (const RequestPtr& request : active_) {
    visit(request);
  }
  for (const RequestPtr& request : admission_.waiting()) {
    visit(request);
  }
}

void Scheduler::accept(std::shared_ptr<Request> request) {
  if (idle()) {
    counted_until_ = now_seconds();
  }
  try {
    start(request);
  } catch (...) {
    request->end(current_error());
  }
  if (request->ended) {
    active_.push_back(std::move(request)); // until it is delivered
  } else {
    admission_.wait(std::move(request));
  }
}

void Scheduler::start(const RequestPtr& request) {
  Timeline& timeline = *request->timeline;
  switch (request->kind) {
    case Kind::close:
      close_timeline(*request);
      request->end();
      return;
    case Kind::rewind:
      if (request->rewind_length > timeline.tokens.size()) {
        fail(
            ErrorCode::invalid_argument,
            "[session] cannot rewind to {} tokens: the session holds {}",
            request->rewind_length,
            timeline.tokens.size());
      }
      if (timeline.sequence >= 0) {
        shorten(timeline, request->rewind_length);
      }
      request->end();
      return;
    case Kind::generate:
    case Kind::score:
    case Kind::embed:
    case Kind::extend:
      timeline.embeds = request->kind == Kind::embed;
      check_tokens(*request);
      answers_.start(*request);
  }
}

void Scheduler::close_timeline(const Request& request) {
  for_each_request([&](const RequestPtr& other) {
    if (other->timeline == request.timeline) {
      other->end(make_error(ErrorCode::cancelled, "[session] closed"));
    }
  });
  admission_.forget(request.timeline);
}

// Throws Error(invalid_argument) for tokens that cannot be read.
void Scheduler::check_tokens(const Request& request) const {
  const size_t length = request.timeline->tokens.size();
  const auto vocab = static_cast<TokenId>(setup_.model->shape().vocab);
  for (const TokenId id : request.tokens) {
    if (id >= vocab) {
      fail(
          ErrorCode::invalid_argument,
          "[session] token id {} is outside the vocabulary of {}",
          id,
          vocab);
    }
  }
  if (request.tokens.empty()) {
    fail(
        ErrorCode::invalid_argument,
        "[session] the prompt is empty; give at least one token");
  }
  if (request.kind == Kind::score &&
      (length > 0 || request.tokens.size() < 2)) {
    fail(
        ErrorCode::invalid_argument,
        "[score] needs an empty session and at least two tokens, not {} and "
        "{}",
        length,
        request.tokens.size());
  }
  if (request.kind == Kind::embed && length > 0) {
    fail(
        ErrorCode::invalid_argument,
        "[embedding] needs an empty session; this one holds {} tokens",
        length);
  }
  if (length + request.tokens.size() >
      static_cast<size_t>(setup_.context_tokens)) {
    const bool at_limit =
        setup_.context_tokens >= setup_.model->shape().max_positions;
    fail(
        ErrorCode::invalid_argument,
        "[session] {} tokens do not fit the context of {} tokens{}; give {}",
        length + request.tokens.size(),
        setup_.context_tokens,
        at_limit ? ", the model's own limit" : "",
        at_limit ? "fewer tokens" : "a larger --ctx or fewer tokens");
  }
}

void Scheduler::step() {
  try {
    if (prefixes_) {
      prefixes_->begin_step();
    }
    drop_cancelled();
    admission_.admit(active_);
    make_matchers();
    restore_prompts();
    admission_.make_room_to_decode(active_, [this](Request& request) {
      answers_.end_generation(request, FinishReason::length);
    });
    ops::Batch batch;
    const std::vector<Part> parts = plan_step(batch);
    if (!parts.empty()) {
      run_or_end(batch, parts);
    }
  } catch (...) {
    // Not of any one request: the engine lives on without them.
    const auto why = current_error();
    for_each_request([&](const RequestPtr& request) { request->end(why); });
  }
  for_each_request([this](const RequestPtr& request) {
    if (request->ended && request->serial > 0) { // else it was never admitted
      admission_.let_go(*request);
      request->grammar = nullptr; // its room is for others
    }
  });
}

void Scheduler::run_or_end(
    const ops::Batch& batch,
    const std::vector<Part>& parts) {
  count_step(parts);
  try {
    run(batch, parts);
    const double now = now_seconds();
    count_rows(parts, now - counted_until_);
    adapt_mixed_rows(parts, now - counted_until_);
    counted_until_ = now;
  } catch (const StepStopped&) {
    // It is planned anew, and nobody gives up what was reserved for them.
    counted_until_ = now_seconds();
  } catch (...) {
    counted_until_ = now_seconds(); // a step that failed is no row's time
    const auto why = current_error();
    const bool retry = parts.size() > 1 && !advanced_;
    for (const Part& part : parts) {
      if (retry) {
        run_alone(part);
      } else {
        end_part(part, why);
      }
    }
  }
}

// Results do not depend on company, so a part can be had without it.
void Scheduler::run_alone(const Part& part) {
  ops::Batch batch;
  std::vector<Part> parts;
  if (add_part(part.request, part.segment.rows, batch, parts)) {
    run_or_end(batch, parts);
  }
}

void Scheduler::end_part(const Part& part, const std::exception_ptr& why) {
  // Gives back the pages that were reserved for the step, too.
  shorten(*part.request->timeline, part.segment.start);
  part.request->end(why);
}

void Scheduler::cancel_all() {
  for_each_request(
      [](const RequestPtr& request) { request->cancelled = true; });
}

void Scheduler::drop_cancelled() {
  for_each_request([this](const RequestPtr& request) {
    if (request->ended || !request->cancelled.load(std::memory_order_relaxed)) {
      return;
    }
    if (request->kind == Kind::generate) {
      answers_.end_generation(*request, FinishReason::cancelled);
    } else {
      request->end(make_error(ErrorCode::cancelled, "[session] cancelled"));
    }
  });
}

// Of those that have been admitted, so that there are never too many.
void Scheduler::make_matchers() {
  for (const RequestPtr& request : active_) {
    if (request->is_constrained() && !request->grammar && !request->ended) {
      try {
        request->grammar =
            setup_.grammars->matcher(request->options.constraint);
      } catch (...) {
        request->end(current_error());
      }
    }
  }
}

// What the page store has of prompts need not be computed.
void Scheduler::restore_prompts() {
  const double until = now_seconds() + kRestoreSeconds;
  for (const RequestPtr& request : active_) {
    while (request->stored > 0 && !request->ended &&
           !request->cancelled.load(std::memory_order_relaxed) &&
           now_seconds() < until) {
      admission_.restore_page(*request);
    }
  }
}

// Once most of what a step computes is for nobody, the others are better off
// beginning it anew without that.
bool Scheduler::should_stop(const std::vector<Part>& parts) const {
  if (setup_.closing && *setup_.closing) {
    return true;
  }
  int rows = 0;
  int cancelled = 0;
  for (const Part& part : parts) {
    const bool is = part.request->cancelled.load(std::memory_order_relaxed);
    rows += part.segment.rows;
    cancelled += is ? part.segment.rows : 0;
  }
  return 2 * cancelled > rows;
}

std::vector<Scheduler::Part> Scheduler::plan_step(ops::Batch& batch) {
  std::vector<Part> parts;
  if (active_.empty()) {
    return parts;
  }
  // More requests than rows take turns.
  std::rotate(active_.begin(), active_.begin() + 1, active_.end());
  add_decoding(batch, parts);
  add_prompts(batch, parts);
  return parts;
}

// Those who read prompts have a share, however many decode.
void Scheduler::add_decoding(ops::Batch& batch, std::vector<Part>& parts) {
  const bool reads = std::any_of(
      active_.begin(), active_.end(), [](const RequestPtr& request) {
        return request->reads_prompt();
      });
  // With one row in a step they have it in turn.
  const int least = setup_.prefill_chunk > 1 || stats_.steps % 2 > 0 ? 1 : 0;
  const int most = setup_.prefill_chunk -
      (reads ? std::max(least, setup_.prefill_chunk / 4) : 0);
  for (const RequestPtr& request : active_) {
    if (!request->ended && request->decoding && batch.rows() < most) {
      add_part(request, 1, batch, parts);
    }
  }
}

// Half of the room is for the prompt that came first, so that it does get
// read; else those come first that have least left.
void Scheduler::add_prompts(ops::Batch& batch, std::vector<Part>& parts) {
  std::vector<RequestPtr> prompts;
  for (const RequestPtr& request : active_) {
    if (request->reads_prompt()) {
      prompts.push_back(request);
    }
  }
  if (prompts.empty()) {
    return;
  }
  const auto left = [](const RequestPtr& request) {
    return static_cast<int>(request->tokens.size() - request->read);
  };
  int room = setup_.prefill_chunk - batch.rows();
  if (batch.rows() > 0) {
    room = std::min(room, mixed_rows_);
  }
  const RequestPtr first = *std::min_element(
      prompts.begin(), prompts.end(), [](const auto& a, const auto& b) {
        return a->serial < b->serial;
      });
  const int reserved = std::min(left(first), (room + 1) / 2);
  std::sort(prompts.begin(), prompts.end(), [&](const auto& a, const auto& b) {
    return std::pair(left(a), a->serial) < std::pair(left(b), b->serial);
  });
  int kept = reserved; // for `first`, until it has its rows
  for (const RequestPtr& request : prompts) {
    kept = request == first ? 0 : kept;
    const int rows = std::min(left(request), room - kept);
    if (rows > 0 && add_part(request, rows, batch, parts)) {
      room -= rows;
    }
  }
}

// Doubles and halves what a step reads of prompts while somebody decodes, so
// that this one does not wait much longer for a token than is asked for.
void Scheduler::adapt_mixed_rows(
    const std::vector<Part>& parts,
    double seconds) {
  int rows = 0;
  bool decodes = false;
  for (const Part& part : parts) {
    rows += part.prompt ? part.segment.rows : 0;
    decodes = decodes || !part.prompt;
  }
  if (!decodes || rows == 0) {
    return;
  }
  stats_.longest_mixed_step_seconds =
      std::max(stats_.longest_mixed_step_seconds, seconds);
  if (seconds > setup_.decode_gap_seconds) {
    // A prompt's few last rows are not what made it long.
    const int half =
        std::max(mixed_rows_ / 2, std::min(kLeastMixedRows, mixed_rows_));
    mixed_rows_ = 2 * rows < mixed_rows_ ? mixed_rows_ : half;
  } else if (rows >= mixed_rows_ && seconds < setup_.decode_gap_seconds / 2) {
    mixed_rows_ = std::min(2 * mixed_rows_, setup_.prefill_chunk);
  }
}

// Adds the next `rows` tokens of a request, if the cache has room for them.
bool Scheduler::add_part(
    const RequestPtr& request,
    int rows,
    ops::Batch& batch,
    std::vector<Part>& parts) {
  const Timeline& timeline = *request->timeline;
  const int start = static_cast<int>(timeline.tokens.size());
  const bool full = start + rows > setup_.context_tokens ||
      !admission_.reserve(timeline, start + rows);
  if (full && request->decoding) {
    answers_.end_generation(*request, FinishReason::length);
    return false;
  }
  if (full) {
    request->end(make_error(
        ErrorCode::out_of_budget,
        fmt::format(
            "[session] the KV cache of {} tokens, which sessions take by pages "
            "of {}, is full with other sessions; end some or give a larger "
            "--ctx",
            setup_.context_tokens,
            ops::kKvPageTokens)));
    return false;
  }
  Part part{
      request,
      {timeline.sequence, batch.rows(), rows, start},
      rows,
      !request->decoding};
  if (request->decoding) {
    batch.add(timeline.sequence, start, std::vector<uint32_t>{request->next});
    part.first_wanted_row = 0;
  } else {
    const auto first = request->tokens.begin() + request->read;
    batch.add(
        timeline.sequence, start, std::vector<uint32_t>(first, first + rows));
    const bool last = request->read + rows == request->tokens.size();
    if (request->wants_every_row()) {
      const size_t again =
          request->again - std::min(request->again, request->read);
      part.first_wanted_row = std::min(rows, static_cast<int>(again));
    } else if (last) {
      part.first_wanted_row = rows - 1;
    }
  }
  parts.push_back(part);
  return true;
}

void Scheduler::run(const ops::Batch& batch, const std::vector<Part>& parts) {
  setup_.experts->begin_step(batch.longest());
  advanced_ = false;
  take_results(
      parts, setup_.model->forward(batch, *setup_.cache, *setup_.experts, [&] {
        return should_stop(parts);
      }));
}

void Scheduler::take_results(
    const std::vector<Part>& parts,
    const mx::array& hidden) {
  using What = WantedRows::What;
  WantedRows logits(*setup_.model, hidden, What::logits, setup_.logit_rows);
  WantedRows states(*setup_.model, hidden, What::states, setup_.logit_rows);
  for (size_t p = 0; p < parts.size(); ++p) {
    const ops::Segment& segment = parts[p].segment;
    auto& wanted = parts[p].request->kind == Kind::embed ? states : logits;
    for (int row = parts[p].first_wanted_row; row < segment.rows; ++row) {
      wanted.add(p, row, segment.first_row);
    }
  }
  compute_first(logits, states, hidden);
  advance(parts);
  take(logits, parts);
  take(states, parts);
  for (const Part& part : parts) {
    const Request& request = *part.request;
    if (request.kind != Kind::generate &&
        request.read == request.tokens.size()) {
      part.request->end();
    }
  }
}

void Scheduler::take(WantedRows& wanted, const std::vector<Part>& parts) {
  for (size_t i = 0; i < wanted.rows().size(); ++i) {
    const WantedRows::Row& row = wanted.rows()[i];
    const Part& part = parts[row.part];
    const size_t position = static_cast<size_t>(part.segment.start + row.row);
    const std::span<float> values = wanted.values(i);
    try {
      if (wanted.what() == WantedRows::What::states) {
        answers_.take_state(*part.request, position, values);
      } else {
        answers_.take_row(*part.request, position, values);
      }
    } catch (...) {
      // This request alone fails; the others go on.
      end_part(part, current_error());
    }
  }
}

// The step has succeeded: its rows are part of their sequences now.
void Scheduler::advance(const std::vector<Part>& parts) {
  advanced_ = true;
  for (const Part& part : parts) {
    Request& request = *part.request;
    Timeline& timeline = *request.timeline;
    if (request.decoding) {
      timeline.tokens.push_back(request.next);
    } else {
      const auto first = request.tokens.begin() + request.read;
      timeline.tokens.insert(
          timeline.tokens.end(), first, first + part.segment.rows);
      request.read += part.segment.rows;
    }
    setup_.cache->set_length(
        timeline.sequence, part.segment.start + part.segment.rows);
    timeline.length = timeline.tokens.size();
    if (part.prompt) {
      request.tell_read();
    }
    if (part.prompt && request.read == request.tokens.size()) {
      admission_.keep(timeline);
    }
  }
}

void Scheduler::shorten(Timeline& timeline, size_t length) {
  timeline.tokens.resize(length);
  timeline.length = length;
  const int held = setup_.cache->length(timeline.sequence);
  setup_.cache->set_length(
      timeline.sequence, std::min(held, static_cast<int>(length)));
}

void Scheduler::deliver() {
  const auto give_back = [this](const RequestPtr& request) {
    if (request->ended) {
      request->deliver();
    }
    return request->ended;
  };
  std::erase_if(active_, give_back);
  std::erase_if(admission_.waiting(), give_back);
}

Stats Scheduler::stats() const {
  Stats stats = stats_;
  stats.cached_tokens = admission_.cached_tokens();
  stats.preemptions = admission_.preemptions();
  stats.requests_active = static_cast<uint64_t>(
      std::count_if(active_.begin(), active_.end(), has_not_ended));
  const auto& waiting = admission_.waiting();
  stats.requests_waiting = static_cast<uint64_t>(
      std::count_if(waiting.begin(), waiting.end(), has_not_ended));
  stats.kv_pages = kv_pages_;
  stats.kv_pages_used = stats.kv_pages - setup_.cache->free_pages();
  stats.kv_pages_kept = prefixes_ ? prefixes_->pages() : 0;
  stats.restored_tokens = prefixes_ ? prefixes_->restored_tokens() : 0;
  return stats;
}

// Failing steps, too.
void Scheduler::count_step(const std::vector<Part>& parts) {
  const auto prompts = static_cast<size_t>(std::count_if(
      parts.begin(), parts.end(), [](const Part& p) { return p.prompt; }));
  ++stats_.steps;
  stats_.prompt_steps += prompts > 0 ? 1 : 0;
  stats_.mixed_steps += prompts > 0 && prompts < parts.size() ? 1 : 0;
}

// A mixed step's time is shared out by rows.
void Scheduler::count_rows(const std::vector<Part>& parts, double seconds) {
  uint64_t prompt_rows = 0;
  uint64_t decode_rows = 0;
  for (const Part& part : parts) {
    (part.prompt ? prompt_rows : decode_rows) += part.segment.rows;
  }
  const double share = seconds / static_cast<double>(prompt_rows + decode_rows);
  stats_.prefill_tokens += prompt_rows;
  stats_.prefill_seconds += share * static_cast<double>(prompt_rows);
  stats_.decode_tokens += decode_rows;
  stats_.decode_seconds += share * static_cast<double>(decode_rows);
}

} // namespace mlx_flash
