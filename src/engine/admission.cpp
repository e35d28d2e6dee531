#include "engine/admission.h"

#include <algorithm>
#include <utility>

#include "base/align.h"
#include "base/error.h"

namespace mlx_flash {

namespace {

bool is_before(const RequestPtr& a, const RequestPtr& b) {
  return a->serial < b->serial;
}

// Whose logits are wanted behind the last token alone, so that the others need
// not be computed.
bool may_skip_known(const Request& request) {
  return request.kind == Request::Kind::generate &&
      request.timeline->tokens.empty();
}

} // namespace

void Admission::wait(RequestPtr request) {
  if (!request->serial) {
    request->serial = ++next_serial_;
  }
  const auto place =
      std::upper_bound(waiting_.begin(), waiting_.end(), request, is_before);
  waiting_.insert(place, std::move(request));
}

void Admission::admit(std::vector<RequestPtr>& active) {
  while (active.size() < most_active_) {
    // Those that have ended are given back before the next step.
    const auto next =
        std::find_if(waiting_.begin(), waiting_.end(), has_not_ended);
    if (next == waiting_.end()) {
      break;
    }
    const RequestPtr request = *next;
    if (!has_matcher_for(*request, active)) {
      break;
    }
    if (!try_admit(*request, active.size())) {
      if (!active.empty()) {
        break;
      }
      request->end(make_error(
          ErrorCode::out_of_budget,
          fmt::format(
              "[session] the KV cache, which sessions take by pages of {} "
              "tokens, is full with other sessions; end some or give a larger "
              "--ctx",
              ops::kKvPageTokens)));
    }
    waiting_.erase(next);
    active.push_back(request);
  }
  for (size_t i = 0; i < waiting_.size(); ++i) {
    waiting_[i]->tell_position(i + 1);
  }
}

bool Admission::has_matcher_for(
    const Request& request,
    const std::vector<RequestPtr>& active) const {
  if (!request.is_constrained() || request.grammar) {
    return true;
  }
  const auto has_one = [](const RequestPtr& each) {
    return each->is_constrained() && !each->ended;
  };
  const auto waits_with_one = [](const RequestPtr& each) {
    return each->grammar != nullptr && !each->ended;
  };
  return std::count_if(active.begin(), active.end(), has_one) +
      std::count_if(waiting_.begin(), waiting_.end(), waits_with_one) <
      static_cast<ptrdiff_t>(most_constrained_);
}

bool Admission::try_admit(Request& request, size_t active) {
  Timeline& timeline = *request.timeline;
  if (timeline.sequence < 0) {
    timeline.sequence = cache_.add_sequence();
    timelines_.push_back(request.timeline);
  }
  read_again_what_was_lost(request);
  const bool may_skip = may_skip_known(request);
  const size_t known = prefixes_ && may_skip
      ? prefixes_->begin(timeline.sequence, request.tokens)
      : 0;
  const size_t length = timeline.tokens.size() + request.tokens.size();
  if (!could_make_room(timeline, length, active) ||
      !reserve(timeline, length) || !make_headroom(timeline, active)) {
    cache_.set_length(
        timeline.sequence, static_cast<int>(timeline.tokens.size()));
    return false;
  }
  const auto begin = request.tokens.begin();
  timeline.tokens.insert(timeline.tokens.end(), begin, begin + known);
  timeline.length = timeline.tokens.size();
  timeline.active = true;
  timeline.last_use = request.serial;
  request.read = known;
  if (!std::exchange(request.was_admitted, true)) {
    cached_tokens_ += known;
  }
  if (prefixes_ && may_skip) {
    request.stored = prefixes_->stored(request.tokens, known);
    prefixes_->use(std::span(request.tokens).first(known + request.stored));
  }
  request.tell_admitted(known);
  return true;
}

void Admission::restore_page(Request& request) {
  Timeline& timeline = *request.timeline;
  const size_t end = request.read + ops::kKvPageTokens;
  const auto tokens = std::span(request.tokens).first(end);
  if (!prefixes_->restore(timeline.sequence, tokens)) {
    request.stored = 0; // the rest is read
    return;
  }
  cache_.set_length(timeline.sequence, static_cast<int>(end));
  timeline.tokens.assign(tokens.begin(), tokens.end());
  timeline.length = end;
  request.read = end;
  request.stored -= ops::kKvPageTokens;
  cached_tokens_ += ops::kKvPageTokens;
  request.tell_admitted(end);
}

void Admission::read_again_what_was_lost(Request& request) {
  Timeline& timeline = *request.timeline;
  if (cache_.length(timeline.sequence) <
      static_cast<int>(timeline.tokens.size())) {
    request.again = timeline.tokens.size();
    request.tokens.insert(
        request.tokens.begin(), timeline.tokens.begin(), timeline.tokens.end());
    timeline.tokens.clear();
    cache_.set_length(timeline.sequence, 0);
  }
}

bool Admission::reserve(const Timeline& timeline, size_t length) {
  while (!cache_.reserve(timeline.sequence, static_cast<int>(length))) {
    if (!(prefixes_ && prefixes_->give_back_page()) && !drop_idle(timeline) &&
        !(prefixes_ && prefixes_->part_with_page(timeline.sequence))) {
      return false;
    }
  }
  return true;
}

// False if it certainly cannot, before anything is given up in vain.
bool Admission::could_make_room(
    const Timeline& timeline,
    size_t length,
    size_t active) const {
  constexpr size_t kPage = ops::kKvPageTokens;
  const auto pages_of = [&](const Timeline& each) {
    return div_up(static_cast<size_t>(cache_.length(each.sequence)), kPage);
  };
  size_t pages = cache_.free_pages() + pages_of(timeline);
  pages += prefixes_ ? prefixes_->spare_pages() : 0;
  for (const auto& each : timelines_) {
    if (!each->active && each.get() != &timeline) {
      pages += pages_of(*each);
    }
  }
  return pages >= div_up(length, kPage) + active;
}

// The one that has been idle for longest.
bool Admission::drop_idle(const Timeline& except) {
  Timeline* oldest = nullptr;
  for (const auto& each : timelines_) {
    if (!each->active && each.get() != &except &&
        cache_.length(each->sequence) > 0 &&
        (!oldest || each->last_use < oldest->last_use)) {
      oldest = each.get();
    }
  }
  if (oldest) {
    cache_.set_length(oldest->sequence, 0);
  }
  return oldest != nullptr;
}

// One page for each of the others, so that none has to give way at once.
bool Admission::make_headroom(const Timeline& timeline, size_t active) {
  const auto has_it = [&] {
    const size_t spare = prefixes_ ? prefixes_->spare_pages() : 0;
    return cache_.free_pages() + spare >= active;
  };
  while (!has_it()) {
    if (!drop_idle(timeline)) {
      return false;
    }
  }
  return true;
}

void Admission::make_room_to_decode(
    std::vector<RequestPtr>& active,
    const std::function<void(Request&)>& end_full) {
  std::vector<RequestPtr> by_age = active;
  std::sort(by_age.begin(), by_age.end(), is_before);
  for (const RequestPtr& request : by_age) {
    const auto has_room = [&] {
      return request->ended || !request->decoding ||
          reserve(*request->timeline, request->timeline->tokens.size() + 1);
    };
    while (!has_room()) {
      const auto victim = std::max_element(
          active.begin(), active.end(), [](const auto& a, const auto& b) {
            return std::pair(a->may_wait_again(), a->serial) <
                std::pair(b->may_wait_again(), b->serial);
          });
      const auto going_on =
          std::count_if(active.begin(), active.end(), has_not_ended);
      if (going_on == 1 || !(*victim)->may_wait_again()) {
        end_full(*request);
      } else {
        preempt(active, static_cast<size_t>(victim - active.begin()));
      }
    }
  }
}

void Admission::preempt(std::vector<RequestPtr>& active, size_t index) {
  const RequestPtr request = active[index];
  active.erase(active.begin() + static_cast<ptrdiff_t>(index));
  Timeline& timeline = *request->timeline;
  keep(timeline);
  const size_t read = timeline.tokens.size();
  std::vector<TokenId> again = std::exchange(timeline.tokens, {});
  if (request->decoding) {
    again.push_back(request->next);
  } else {
    again.insert(
        again.end(),
        request->tokens.begin() + static_cast<ptrdiff_t>(request->read),
        request->tokens.end());
  }
  // It may have been reading again already.
  request->again = std::max(request->again, read);
  request->tokens = std::move(again);
  request->read = 0;
  request->stored = 0;
  request->decoding = false;
  timeline.active = false;
  cache_.set_length(timeline.sequence, 0);
  ++preemptions_;
  wait(request);
}

void Admission::keep(const Timeline& timeline) {
  if (prefixes_ && timeline.sequence >= 0 && !timeline.embeds) {
    const auto held = static_cast<size_t>(cache_.length(timeline.sequence));
    prefixes_->keep(
        timeline.sequence,
        std::span(timeline.tokens)
            .first(std::min(held, timeline.tokens.size())));
  }
}

void Admission::let_go(Request& request) {
  Timeline& timeline = *request.timeline;
  timeline.active = false;
  if (timeline.sequence < 0) {
    return; // never admitted, or closed
  }
  keep(timeline);
  if (timeline.embeds) {
    cache_.set_length(timeline.sequence, 0);
    timeline.tokens.clear();
    timeline.length = 0;
  } else if (timeline.tokens.size() < request.again) {
    // It ended while it was read again: the session still holds all of it.
    cache_.set_length(timeline.sequence, 0);
    const auto begin = request.tokens.begin();
    timeline.tokens.assign(
        begin, begin + static_cast<ptrdiff_t>(request.again));
    timeline.length = request.again;
  } else {
    // What was reserved for it and not used.
    cache_.set_length(timeline.sequence, cache_.length(timeline.sequence));
  }
}

void Admission::forget(const std::shared_ptr<Timeline>& timeline) {
  if (timeline->sequence >= 0) {
    keep(*timeline);
    cache_.remove_sequence(timeline->sequence);
    timeline->sequence = -1;
    std::erase(timelines_, timeline);
  }
}

} // namespace mlx_flash
