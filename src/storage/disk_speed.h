// How fast a disk delivers experts: the bound of a run that streams them.
// Whole experts are read in random order with their real sections, enough of
// them at once that the reader is never short of requests. Of a model without
// experts pieces of 1 MiB are read.
//
// Thread rule: free functions; the reader is the caller's.
#pragma once

#include <cstdint>

#include "storage/checkpoint.h"
#include "storage/expert_layout.h"
#include "storage/reader.h"

namespace mlx_flash {

struct DiskSpeed {
  double seconds = 0;
  uint64_t device_bytes = 0; // alignment included
  uint64_t reads = 0; // sections
  uint64_t bytes = 0; // of them

  double gb_per_second() const {
    return seconds > 0 ? static_cast<double>(device_bytes) / seconds / 1e9 : 0;
  }
};

// Reads for about `seconds` and at least once. `reader` is one of the
// checkpoint's files made with `options`, with nothing outstanding. Takes
// memory for twice the bytes that the reader has in flight, and for two
// experts at least. Throws Error(io) for a read that failed.
DiskSpeed measure_disk_speed(
    Reader& reader,
    const ReaderOptions& options,
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    double seconds,
    uint64_t seed);

} // namespace mlx_flash
