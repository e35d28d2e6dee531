// A range of a file as chunks for a JsonScanner, read around the page cache.
#pragma once

#include "platform/direct_file.h"
#include "storage/json_scanner.h"

namespace mlx_flash {

// Bytes [begin, end) of `file`, which must outlive the result and not be
// shorter. Reading may throw Error(io).
JsonScanner::Refill
stream_file(const DirectFile& file, uint64_t begin, uint64_t end);

} // namespace mlx_flash
