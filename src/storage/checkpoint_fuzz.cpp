// Any bytes as the JSON files of a model folder: config.json, the index of the
// shards. What is accepted as config.json must be JSON to the library that the
// model families read it with.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "mlx_flash/error.h"
#include "storage/model_config.h"
#include "storage/shard_index.h"

using namespace mlx_flash;

namespace {

void fuzz_config(std::string_view text) {
  try {
    parse_model_config(text, "fuzz");
  } catch (const Error&) {
    return;
  }
  if (!nlohmann::json::accept(text)) {
    std::abort();
  }
}

void fuzz_index(std::string_view text) {
  TensorTable table;
  const std::string_view header =
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
  table.add_text(header, 8 + header.size() + 1, "fuzz");
  table.finish();
  try {
    JsonScanner names(text, "fuzz", "");
    const auto shards = read_shard_names(names);
    JsonScanner map(text, "fuzz", "");
    check_weight_map(map, shards, table);
  } catch (const Error&) {
    return;
  }
  if (!nlohmann::json::accept(text)) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz_config(text);
  fuzz_index(text);
  return 0;
}
