// What a bench counts, and the figures that follow from it by arithmetic on
// the model's shape. Pure functions; bench.h measures.
//
// Thread rule: values without state.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlx_flash {

enum class BenchKind { prefill, decode };

struct BenchCase {
  BenchKind kind = BenchKind::prefill;
  uint64_t context = 0; // tokens in the session before
  uint64_t tokens = 0; // of a prompt, or decoded one by one

  // Room in the KV cache that it takes, in tokens.
  uint64_t room() const {
    return context + tokens;
  }
  bool operator==(const BenchCase&) const = default;
};
// "prefill" or "decode".
const char* bench_kind_name(BenchKind kind);
// "prefill 512" or "decode at 512".
std::string bench_case_name(const BenchCase& what);

// What a token costs, from the model's files and shape.
struct BenchWork {
  // Dense weights that a step reads: all of them, but of an embedding that is
  // not the head too only one row.
  uint64_t dense_bytes = 0;
  uint64_t expert_bytes = 0; // records of a token's experts, all layers
  uint64_t kv_bytes = 0; // keys and values of one position, all layers
  // Weights that each row is multiplied with, and those of the head, with
  // which only rows are multiplied that ask for logits.
  uint64_t row_parameters = 0;
  uint64_t head_parameters = 0;
  uint64_t attention_flops = 0; // of a row and one position it attends to
};

// Bytes from memory to the processor for one decoded token, on the mean of the
// case: each weight that it needs once, and once the keys and values of every
// position that it attends to. Activations stay in caches and do not count,
// nor does what a read from disk writes to memory. `what` is a decode.
double decode_bytes_per_token(const BenchWork& work, const BenchCase& what);

// Floating-point operations of the whole case: two for each weight and row,
// and attention. Of a prompt only the last row asks for logits.
double total_flops(const BenchWork& work, const BenchCase& what);

// What the machine can do at most, in GB/s; 0 where it is not known.
struct BenchLimits {
  double memory_gb_per_second = 0;
  double disk_gb_per_second = 0;
};

struct BenchCounters {
  double seconds = 0;
  double stall_seconds = 0; // of these, waiting for reads
  uint64_t steps = 0;
  uint64_t expert_hits = 0;
  uint64_t expert_misses = 0;
  uint64_t bytes_read = 0; // from disk
};

// Of one run; empty where there is nothing to tell.
struct BenchFigures {
  std::optional<double> seconds;
  std::optional<double> tokens_per_second;
  std::optional<double> hit_rate; // of expert lookups, 0 to 1
  std::optional<double> bytes_read_per_token; // from disk
  std::optional<double> disk_gb_per_second;
  std::optional<double> disk_share; // of the limit, 0 to 1
  std::optional<double> stall_share; // of the seconds, 0 to 1
  std::optional<double> memory_bytes_per_token; // decoding only
  std::optional<double> memory_gb_per_second; // decoding only
  std::optional<double> memory_share; // of the limit, 0 to 1
  std::optional<double> gflop_per_second;
};

// `counters.seconds` is positive.
BenchFigures figures_of(
    const BenchCounters& counters,
    const BenchCase& what,
    const BenchWork& work,
    const BenchLimits& limits);

// All figures with their names, for whoever prints or compares them.
struct BenchFigure {
  const char* name;
  std::optional<double> BenchFigures::* value;
};
inline constexpr std::array<BenchFigure, 11> kBenchFigures{{
    {"seconds", &BenchFigures::seconds},
    {"tokens_per_second", &BenchFigures::tokens_per_second},
    {"hit_rate", &BenchFigures::hit_rate},
    {"bytes_read_per_token", &BenchFigures::bytes_read_per_token},
    {"disk_gb_per_second", &BenchFigures::disk_gb_per_second},
    {"disk_share", &BenchFigures::disk_share},
    {"stall_share", &BenchFigures::stall_share},
    {"memory_bytes_per_token", &BenchFigures::memory_bytes_per_token},
    {"memory_gb_per_second", &BenchFigures::memory_gb_per_second},
    {"memory_share", &BenchFigures::memory_share},
    {"gflop_per_second", &BenchFigures::gflop_per_second},
}};

struct BenchSpread {
  double median = 0; // of an even number of values, the mean of the middle two
  double min = 0;
  double max = 0;
  bool operator==(const BenchSpread&) const = default;
};
// Empty without values.
std::optional<BenchSpread> spread_of(std::vector<double> values);

} // namespace mlx_flash
