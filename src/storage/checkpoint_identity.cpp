#include "storage/checkpoint_identity.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/hash.h"

namespace mlx_flash {

namespace {

constexpr uint64_t kSamples = 16; // of a file
constexpr uint64_t kSampleBytes = 4096;

// Its header among them.
Hash128 hash_of_samples(const DirectFile& file) {
  std::vector<std::byte> samples;
  for (uint64_t i = 0; i < kSamples; ++i) {
    const uint64_t at = file.size() / kSamples * i;
    const size_t old = samples.size();
    samples.resize(old + std::min(kSampleBytes, file.size() - at));
    file.read_exactly(at, std::span(samples).subspan(old));
  }
  return hash_of(samples);
}

} // namespace

std::string checkpoint_identity(const Checkpoint& checkpoint) {
  std::string identity =
      hex(hash_of(std::as_bytes(std::span(checkpoint.config_json()))));
  for (const auto& path : checkpoint.files()) {
    const DirectFile file(path);
    const auto changed = std::filesystem::last_write_time(path);
    identity += fmt::format(
        "\n{} {} {} {}",
        path.filename().string(),
        file.size(),
        changed.time_since_epoch().count(),
        hex(hash_of_samples(file)));
  }
  return identity;
}

} // namespace mlx_flash
