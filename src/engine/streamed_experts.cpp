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
    const ops::ExpertBank& memory)
    : layout_(layout), memory_(memory), bank_(bank), fetcher_(fetcher) {
  for (const LayerExperts& layer : layout.layers()) {
    records_.emplace(layer.layer, expert_record(layer));
  }
}

void StreamedExperts::begin_step(int rows) {
  bank_.begin_step(static_cast<uint32_t>(rows));
}

void StreamedExperts::end_step() {
  if (failed()) {
    throw *std::exchange(error_, std::nullopt);
  }
}

void StreamedExperts::record_failure(
    ErrorCode code,
    const std::string& message) {
  if (!failed()) {
    error_.emplace(code, message);
  }
}

// Starts as many of the missing experts as there are slots for.
void StreamedExperts::start_missing() {
  const size_t before = started_;
  while (started_ < missing_.size() && fetcher_.start(missing_[started_].key)) {
    ++started_;
  }
  if (started_ > before) {
    fetcher_.submit();
  }
}

template <typename Compute>
bool StreamedExperts::visit(
    const std::vector<Wanted>& wanted,
    const Compute& compute) {
  try {
    return visit_all(wanted, compute);
  } catch (...) {
    fetcher_.abandon();
    ready_.clear();
    throw;
  }
}

template <typename Compute>
bool StreamedExperts::visit_all(
    const std::vector<Wanted>& wanted,
    const Compute& compute) {
  ready_.clear();
  missing_.clear();
  started_ = 0;
  // Everything present is pinned before anything is evicted.
  for (const Wanted& want : wanted) {
    if (auto lease = bank_.try_lease(want.key, want.rows)) {
      ready_.push_back({want.group, std::move(*lease)});
    } else {
      missing_.push_back(want);
    }
  }
  start_missing();
  while (!ready_.empty()) {
    compute(ready_.back().group, ready_.back().lease.slot());
    ready_.pop_back(); // releases the slot
    start_missing();
    fetcher_.pump(); // a reader's depth is less than a layer's reads
  }
  while (auto fetched = fetcher_.wait()) {
    if (!fetched->lease) {
      record_failure(ErrorCode::io, fetched->error);
      fetcher_.abandon();
      return false;
    }
    const auto want =
        std::find_if(missing_.begin(), missing_.end(), [&](const Wanted& w) {
          return w.key == fetched->key;
        });
    MLX_FLASH_CHECK(want != missing_.end());
    compute(want->group, fetched->lease->slot());
    fetched->lease.reset();
    start_missing();
  }
  MLX_FLASH_CHECK(started_ == missing_.size());
  return true;
}

mx::array CpuStreamedExperts::forward(
    int layer,
    const mx::array& x,
    const ops::Routing& routing) {
  return ops::cpu_primitive(
      "StreamedExperts",
      ops_.stream(),
      x.shape(),
      {x, routing.ids, routing.weights},
      [this, layer](
          const std::vector<mx::array>& in, std::vector<mx::array>& out) {
        run(layer, in, out[0]);
      });
}

// A primitive must not throw.
void CpuStreamedExperts::run(
    int layer,
    const std::vector<mx::array>& in,
    mx::array& out) {
  try {
    run_layer(layer, in, out);
  } catch (const std::exception& error) {
    record_failure(
        ErrorCode::internal, fmt::format("[experts] {}", error.what()));
    std::memset(out.data<float>(), 0, out.nbytes());
  }
}

void CpuStreamedExperts::run_layer(
    int layer,
    const std::vector<mx::array>& in,
    mx::array& out) {
  ops::CpuWorkspace& ws = *ops_.workspace();
  float* result = out.data<float>();
  // After an error the rest of the step is computed on zeros and thrown away.
  if (failed()) {
    std::memset(result, 0, out.nbytes());
    return;
  }
  const LayerExperts& experts = *layout_.layer(static_cast<uint16_t>(layer));
  ops::ExpertPass& pass = ws.experts;
  pass.begin(
      in[0].data<float>(),
      in[1].data<uint32_t>(),
      in[2].data<float>(),
      in[0].shape(0),
      in[1].shape(1),
      in[0].shape(1),
      experts.experts);
  wanted_.clear();
  for (uint32_t g = 0; g < pass.groups().size(); ++g) {
    const auto& group = pass.groups()[g];
    wanted_.push_back(
        {g, {experts.layer, static_cast<uint16_t>(group.expert)}, group.rows});
  }
  const auto compute = [&](uint32_t group, uint32_t slot) {
    pass.compute(
        ws.pool,
        ws.scratch,
        pass.groups()[group],
        record(layer),
        memory_.slot(slot));
  };
  if (visit(wanted_, compute)) {
    pass.combine(ws.pool, result);
  } else {
    std::memset(result, 0, out.nbytes());
  }
}

mx::array MlxStreamedExperts::forward(
    int layer,
    const mx::array& x,
    const ops::Routing& routing) {
  mx::eval(x, routing.ids, routing.weights);
  if (failed()) {
    return mx::zeros_like(x);
  }
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
  const bool complete = visit(wanted, [&](uint32_t expert, uint32_t slot) {
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
  });
  if (!complete) {
    return mx::zeros_like(x);
  }
  return ops_.combine(parts, place, routing.weights);
}

} // namespace mlx_flash
