#include "storage/reader.h"

#include <algorithm>

#include "base/align.h"
#include "base/error.h"
#include "base/log.h"
#include "storage/pread_reader.h"
#include "storage/uring_reader.h"

namespace mlx_flash {

namespace {

constexpr int kMaxDepth = 1024;

void check_options(std::string_view kind, const ReaderOptions& options) {
  if (kind != "auto" && kind != "uring" && kind != "pread") {
    fail(
        ErrorCode::unsupported,
        "[reader] unknown reader '{}'; use auto, uring or pread",
        kind);
  }
  if (options.depth < 1 || options.depth > kMaxDepth) {
    fail(
        ErrorCode::invalid_argument,
        "[reader] {} reads at once; use 1 to {}",
        options.depth,
        kMaxDepth);
  }
  if (options.most_staged < 1) {
    fail(
        ErrorCode::invalid_argument,
        "[reader] {} staged reads at once; use 1 or more",
        options.most_staged);
  }
  if (options.block_bytes == 0 || options.block_bytes % 4096 != 0 ||
      options.block_bytes > 1 << 30) {
    fail(
        ErrorCode::invalid_argument,
        "[reader] staging blocks of {} bytes; use a multiple of 4096 up to "
        "1 GiB",
        options.block_bytes);
  }
}

} // namespace

uint64_t staging_block_bytes(uint64_t section_bytes) {
  constexpr uint64_t kLeast = 16 << 10;
  constexpr uint64_t kMost = 1 << 20;
  if (section_bytes >= kMost) {
    return kMost;
  }
  // Where a section begins within a page decides whether it touches one more.
  return std::clamp(round_up(section_bytes, 4096) + 4096, kLeast, kMost);
}

std::unique_ptr<Reader> make_reader(
    std::string_view kind,
    const std::vector<std::filesystem::path>& paths,
    const ReaderOptions& options) {
  check_options(kind, options);
  ReaderOptions used = options;
  std::vector<DirectFile> files;
  files.reserve(paths.size());
  for (const auto& path : paths) {
    files.emplace_back(path);
    used.block_bytes = round_up(used.block_bytes, files.back().alignment());
  }
  if (kind != "pread") {
    std::string refused;
    if (auto reader = make_uring_reader(files, used, refused)) {
      return reader;
    }
    if (kind == "uring") {
      fail(
          ErrorCode::unsupported,
          "[reader] io_uring is not to be had here: {}; use auto or pread",
          refused);
    }
    log::info("[reader] io_uring is not to be had here: {}", refused);
  }
  return std::make_unique<PreadReader>(std::move(files), used);
}

} // namespace mlx_flash
