#include "server/engine_totals.h"

#include <algorithm>

namespace mlx_flash::server {

namespace {

constexpr uint64_t Stats::* kCounts[] = {
    &Stats::steps,
    &Stats::prompt_steps,
    &Stats::mixed_steps,
    &Stats::prefill_tokens,
    &Stats::decode_tokens,
    &Stats::cached_tokens,
    &Stats::preemptions,
    &Stats::restored_tokens,
    &Stats::prompt_cache_read,
    &Stats::prompt_cache_written,
    &Stats::prompt_cache_evicted,
    &Stats::prompt_cache_failed,
    &Stats::expert_hits,
    &Stats::expert_misses,
    &Stats::expert_evictions,
    &Stats::bytes_read_demand,
    &Stats::bytes_read_prefetch,
    &Stats::bytes_read_load,
};
constexpr double Stats::* kSeconds[] = {
    &Stats::prefill_seconds,
    &Stats::decode_seconds,
    &Stats::stall_seconds,
};
constexpr LatencyHistogram Stats::* kLatencies[] = {
    &Stats::stall_per_token,
    &Stats::read_latency,
};

// to.x = change(to.x, from.x) for each counter x.
template <typename Change>
void change_counters(Stats& to, const Stats& from, Change change) {
  for (const auto member : kCounts) {
    to.*member = change(to.*member, from.*member);
  }
  for (const auto member : kSeconds) {
    to.*member = change(to.*member, from.*member);
  }
  for (const auto member : kLatencies) {
    LatencyHistogram& mine = to.*member;
    const LatencyHistogram& other = from.*member;
    for (size_t i = 0; i < mine.counts.size(); ++i) {
      mine.counts[i] = change(mine.counts[i], other.counts[i]);
    }
    mine.sum_seconds = change(mine.sum_seconds, other.sum_seconds);
  }
}

void add(Stats& to, const Stats& from) {
  change_counters(to, from, [](auto a, auto b) { return a + b; });
}

} // namespace

void EngineTotals::retire(const Stats& last) {
  ++gone_engines_;
  add(gone_, last);
}

const Stats& EngineTotals::with(const Stats* now) {
  Stats sum = gone_;
  if (now) {
    add(sum, *now);
  }
  engines_ = std::max(engines_, gone_engines_ + (now ? 1 : 0));
  change_counters(shown_, sum, [](auto a, auto b) { return std::max(a, b); });
  return shown_;
}

} // namespace mlx_flash::server
