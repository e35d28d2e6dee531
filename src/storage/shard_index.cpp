#include "storage/shard_index.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace mlx_flash {

namespace {

template <typename Visit>
void for_each_weight(JsonScanner& json, const Visit& visit) {
  bool has_map = false;
  json.begin_object();
  for (std::string name; json.next_member(name);) {
    if (name != "weight_map") {
      json.skip();
      continue;
    }
    if (std::exchange(has_map, true)) {
      json.refuse("\"weight_map\" for the second time");
    }
    json.begin_object();
    for (std::string tensor; json.next_member(tensor);) {
      visit(tensor, json.string());
    }
  }
  json.finish();
  if (!has_map) {
    json.refuse("no \"weight_map\"");
  }
}

void check_shard_name(const JsonScanner& json, const std::string& name) {
  const std::filesystem::path path(name);
  const bool inside = !name.empty() && path.is_relative() &&
      name.find('\0') == std::string::npos &&
      std::none_of(path.begin(), path.end(), [](const auto& part) {
        return part.empty() || part == "." || part == "..";
      });
  if (!inside) {
    json.refuse(fmt::format(
        "shard {} is not the name of a file in the model's folder",
        in_quotes(name)));
  }
}

} // namespace

std::vector<std::string> read_shard_names(JsonScanner& json) {
  std::set<std::string> shards;
  for_each_weight(json, [&](const std::string&, const std::string& shard) {
    if (!shards.insert(shard).second) {
      return;
    }
    check_shard_name(json, shard);
    if (shards.size() > kMaxShards) {
      json.refuse(fmt::format("more than {} shards", kMaxShards));
    }
  });
  if (shards.empty()) {
    json.refuse("\"weight_map\" names no tensors");
  }
  return {shards.begin(), shards.end()};
}

void check_weight_map(
    JsonScanner& json,
    const std::vector<std::string>& shards,
    const TensorTable& table) {
  std::vector<bool> listed(table.size());
  for_each_weight(json, [&](const std::string& name, const std::string& shard) {
    const auto tensor = table.find(name);
    if (!tensor || shards[table.file(*tensor)] != shard) {
      json.refuse(fmt::format(
          "tensor {} is not in {}", in_quotes(name), in_quotes(shard)));
    }
    if (listed[*tensor]) {
      json.refuse(fmt::format("tensor {} is there twice", in_quotes(name)));
    }
    listed[*tensor] = true;
  });
  const auto missing = std::find(listed.begin(), listed.end(), false);
  if (missing != listed.end()) {
    const auto tensor = static_cast<uint32_t>(missing - listed.begin());
    json.refuse(fmt::format(
        "tensor {} of {} is not in the index",
        in_quotes(table.name(tensor)),
        in_quotes(shards[table.file(tensor)])));
  }
}

} // namespace mlx_flash
