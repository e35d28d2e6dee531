#include "mlx_flash/bench_figures.h"

#include <fmt/format.h>

#include <algorithm>

namespace mlx_flash {

namespace {

// The positions that all rows of the case attend to, together: the row at
// position p attends to p + 1.
double attended_positions(const BenchCase& what) {
  const auto context = static_cast<double>(what.context);
  const auto tokens = static_cast<double>(what.tokens);
  return tokens * context + tokens * (tokens + 1) / 2;
}

std::optional<double> ratio(double part, double whole) {
  return whole > 0 ? std::optional(part / whole) : std::nullopt;
}

} // namespace

const char* bench_kind_name(BenchKind kind) {
  return kind == BenchKind::prefill ? "prefill" : "decode";
}

std::string bench_case_name(const BenchCase& what) {
  return what.kind == BenchKind::prefill
      ? fmt::format("prefill {}", what.tokens)
      : fmt::format("decode at {}", what.context);
}

double decode_bytes_per_token(const BenchWork& work, const BenchCase& what) {
  const double positions =
      attended_positions(what) / static_cast<double>(what.tokens);
  return static_cast<double>(work.dense_bytes + work.expert_bytes) +
      positions * static_cast<double>(work.kv_bytes);
}

double total_flops(const BenchWork& work, const BenchCase& what) {
  const auto rows = static_cast<double>(what.tokens);
  const double logit_rows = what.kind == BenchKind::decode ? rows : 1;
  return 2 * rows * static_cast<double>(work.row_parameters) +
      2 * logit_rows * static_cast<double>(work.head_parameters) +
      attended_positions(what) * static_cast<double>(work.attention_flops);
}

BenchFigures figures_of(
    const BenchCounters& counters,
    const BenchCase& what,
    const BenchWork& work,
    const BenchLimits& limits) {
  const double seconds = counters.seconds;
  const auto tokens = static_cast<double>(what.tokens);
  const auto hits = static_cast<double>(counters.expert_hits);
  const auto bytes_read = static_cast<double>(counters.bytes_read);
  BenchFigures figures;
  figures.seconds = seconds;
  figures.tokens_per_second = tokens / seconds;
  figures.hit_rate =
      ratio(hits, hits + static_cast<double>(counters.expert_misses));
  figures.bytes_read_per_token = bytes_read / tokens;
  figures.disk_gb_per_second = bytes_read / seconds / 1e9;
  figures.disk_share =
      ratio(*figures.disk_gb_per_second, limits.disk_gb_per_second);
  figures.stall_share = counters.stall_seconds / seconds;
  figures.gflop_per_second = total_flops(work, what) / seconds / 1e9;
  if (what.kind == BenchKind::decode) {
    const double bytes = decode_bytes_per_token(work, what);
    figures.memory_bytes_per_token = bytes;
    figures.memory_gb_per_second = bytes * tokens / seconds / 1e9;
    figures.memory_share =
        ratio(*figures.memory_gb_per_second, limits.memory_gb_per_second);
  }
  return figures;
}

std::optional<BenchSpread> spread_of(std::vector<double> values) {
  if (values.empty()) {
    return std::nullopt;
  }
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1
      ? values[middle]
      : (values[middle - 1] + values[middle]) / 2;
  return BenchSpread{median, values.front(), values.back()};
}

} // namespace mlx_flash
