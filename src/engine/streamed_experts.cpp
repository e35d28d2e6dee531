#include "engine/streamed_experts.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "engine/checkpoint_weights.h"

namespace mlx_flash {

namespace mx = ops::mx;

StreamedExperts::StreamedExperts(
    SlotBank& bank,
    ExpertFetcher& fetcher,
    const ExpertLayout& layout,
    const ops::ExpertBank& memory,
    PagePopulator& populator)
    : layout_(layout),
      memory_(memory),
      bank_(bank),
      fetcher_(fetcher),
      populator_(populator) {
  for (const LayerExperts& layer : layout.layers()) {
    records_.emplace(layer.layer, expert_record(layer));
  }
  populate_ahead();
}

// Not all at once: a short answer may never use all slots.
void StreamedExperts::populate_ahead() {
  constexpr size_t kAheadBytes = 1 << 30;
  constexpr size_t kStepBytes = 64 << 20;
  const auto memory = memory_.memory.span();
  const size_t end = std::min(
      memory.size(), bank_.used_slots() * bank_.slot_bytes() + kAheadBytes);
  if (end >= populated_ + kStepBytes ||
      (end == memory.size() && end > populated_)) {
    populator_.populate(memory.subspan(populated_, end - populated_));
    populated_ = end;
  }
}

void StreamedExperts::begin_step(int tokens) {
  bank_.begin_step(static_cast<uint32_t>(tokens));
}

// Starts as many of the missing experts as there are slots for.
void StreamedExperts::start_missing() {
  const size_t before = started_;
  while (started_ < missing_.size() && fetcher_.start(missing_[started_].key)) {
    ++started_;
  }
  if (started_ > before) {
    fetcher_.submit();
    populate_ahead();
  }
}

template <typename Compute>
void StreamedExperts::visit(
    const std::vector<Wanted>& wanted,
    const Compute& compute) {
  try {
    visit_all(wanted, compute);
  } catch (...) {
    fetcher_.abandon();
    ready_.clear();
    throw;
  }
}

// Some at a time: what is computed gives its slots back, and the reader is
// looked after in between.
template <typename Compute>
void StreamedExperts::compute_ready(const Compute& compute) {
  constexpr uint32_t kRowsAtOnce = 32;
  while (!ready_.empty()) {
    size_t first = ready_.size() - 1;
    uint32_t rows = ready_[first].rows;
    while (first > 0 && rows + ready_[first - 1].rows <= kRowsAtOnce) {
      rows += ready_[--first].rows;
    }
    compute(std::span<const Ready>(ready_).subspan(first));
    // Releases the slots.
    ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(first), ready_.end());
    start_missing();
    fetcher_.pump(); // a reader's depth is less than a layer's reads
  }
}

// Makes what was fetched ready.
void StreamedExperts::take(Fetched fetched) {
  if (!fetched.lease) {
    throw Error(ErrorCode::io, fetched.error);
  }
  const auto want =
      std::find_if(missing_.begin(), missing_.end(), [&](const Wanted& w) {
        return w.key == fetched.key;
      });
  MLX_FLASH_CHECK(want != missing_.end());
  ready_.push_back({want->group, want->rows, std::move(*fetched.lease)});
}

template <typename Compute>
void StreamedExperts::visit_all(
    const std::vector<Wanted>& wanted,
    const Compute& compute) {
  ready_.clear();
  missing_.clear();
  started_ = 0;
  // Everything present is pinned before anything is evicted.
  for (const Wanted& want : wanted) {
    if (auto lease = bank_.try_lease(want.key, want.rows)) {
      ready_.push_back({want.group, want.rows, std::move(*lease)});
    } else {
      missing_.push_back(want);
    }
  }
  start_missing();
  compute_ready(compute);
  while (auto fetched = fetcher_.wait()) {
    do {
      take(std::move(*fetched));
    } while ((fetched = fetcher_.poll()));
    compute_ready(compute);
  }
  MLX_FLASH_CHECK(started_ == missing_.size());
}

mx::array CpuStreamedExperts::forward(
    int layer,
    const mx::array& x,
    const ops::Routing& routing) {
  const LayerExperts& experts = *layout_.layer(static_cast<uint16_t>(layer));
  const ops::ExpertPass& pass =
      ops_.begin_experts(record(layer), experts.experts, x, routing);
  wanted_.clear();
  for (uint32_t g = 0; g < pass.groups().size(); ++g) {
    const auto& group = pass.groups()[g];
    wanted_.push_back(
        {g, {experts.layer, static_cast<uint16_t>(group.expert)}, group.rows});
  }
  visit(wanted_, [&](std::span<const Ready> ready) {
    present_.clear();
    for (const Ready& expert : ready) {
      present_.push_back({expert.group, memory_.slot(expert.lease.slot())});
    }
    ops_.compute_experts(present_);
  });
  return ops_.combine_experts();
}

mx::array MlxStreamedExperts::forward(
    int layer,
    const mx::array& x,
    const ops::Routing& routing) {
  mx::eval(x, routing.ids, routing.weights);
  const LayerExperts& experts = *layout_.layer(static_cast<uint16_t>(layer));
  const int pairs = static_cast<int>(routing.ids.size());
  const int k = routing.ids.shape(1);
  const uint32_t* ids = routing.ids.data<uint32_t>();
  std::vector<std::vector<int32_t>> rows_of(experts.experts);
  std::vector<std::vector<int32_t>> pairs_of(experts.experts);
  for (int p = 0; p < pairs; ++p) {
    rows_of[ids[p]].push_back(p / k);
    pairs_of[ids[p]].push_back(p);
  }
  std::vector<Wanted> wanted;
  for (uint32_t e = 0; e < experts.experts; ++e) {
    if (!rows_of[e].empty()) {
      wanted.push_back(
          {e,
           {experts.layer, static_cast<uint16_t>(e)},
           static_cast<uint32_t>(rows_of[e].size())});
    }
  }
  // Each expert's rows are computed before its slot can be given up; their
  // places in router order are remembered.
  std::vector<mx::array> parts;
  std::vector<int32_t> place(pairs);
  int done = 0;
  // One slot as a bank of its own: an operation over all of them would touch
  // those that are being read into.
  const ops::ExpertBank one{memory_.memory, memory_.pitch, 1};
  const auto compute = [&](uint32_t expert, uint32_t slot) {
    const auto& rows = rows_of[expert];
    const int n = static_cast<int>(rows.size());
    parts.push_back(ops_.expert_rows(
        one,
        record(layer).shifted(slot * memory_.pitch),
        ops_.select_rows(x, rows),
        mx::zeros({n}, mx::uint32)));
    mx::eval(parts.back());
    for (const int32_t pair : pairs_of[expert]) {
      place[pair] = done++;
    }
  };
  visit(wanted, [&](std::span<const Ready> ready) {
    for (const Ready& expert : ready) {
      compute(expert.group, expert.lease.slot());
    }
  });
  return ops_.combine(parts, place, routing.weights);
}

} // namespace mlx_flash
