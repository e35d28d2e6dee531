// model.safetensors.index.json: which shard holds which tensor. The headers of
// the shards say the same, so the file is read twice in passing, once for the
// names of the shards and once to see that both agree, and is never kept.
#pragma once

#include <string>
#include <vector>

#include "storage/json_scanner.h"
#include "storage/tensor_table.h"

namespace mlx_flash {

// More than any model has, and few enough to hold open.
inline constexpr size_t kMaxShards = 1000;

// The shards that "weight_map" names, each once, sorted. Refuses names that
// lead out of the model's folder.
std::vector<std::string> read_shard_names(JsonScanner& json);

// Refuses an index and shards that differ in a tensor. `table` has the headers
// of `shards`, in that order.
void check_weight_map(
    JsonScanner& json,
    const std::vector<std::string>& shards,
    const TensorTable& table);

} // namespace mlx_flash
