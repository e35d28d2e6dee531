#include "storage/page_file.h"

#include <xxhash.h>

#include <cstring>
#include <vector>

#include "base/align.h"
#include "base/error.h"
#include "platform/direct_file.h"
#include "platform/new_file.h"

namespace mlx_flash {

namespace {

constexpr char kMagic[8] = {'M', 'L', 'X', 'F', 'P', 'A', 'G', 'E'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kTokensOffset = 128;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t kind;
  Hash128 model;
  uint64_t tokens;
  uint64_t page_bytes;
  Hash128 page;
  uint64_t hash; // of what is before
};
static_assert(sizeof(Header) == 72, "the format has no gaps");

uint64_t page_offset(size_t tokens) {
  return round_up(kTokensOffset + 4 * tokens, NewFile::kBlockBytes);
}

Header make_header(const PageLabel& label, std::span<const std::byte> page) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.kind = static_cast<uint32_t>(label.kind);
  header.model = label.model;
  header.tokens = label.tokens.size();
  header.page_bytes = page.size();
  header.page = hash_of(page);
  header.hash = XXH3_64bits(&header, offsetof(Header, hash));
  return header;
}

void require(bool right, const char* what, const std::filesystem::path& path) {
  if (!right) {
    fail(ErrorCode::io, "[page] {} {}", path.string(), what);
  }
}

void check_header(
    const Header& header,
    const PageLabel& label,
    uint64_t page_bytes,
    const std::filesystem::path& path) {
  require(
      std::memcmp(header.magic, kMagic, sizeof(kMagic)) == 0 &&
          header.hash == XXH3_64bits(&header, offsetof(Header, hash)),
      "is no page, or damaged",
      path);
  require(header.version == kVersion, "has a format of another version", path);
  require(
      header.kind == static_cast<uint32_t>(label.kind) &&
          header.model == label.model && header.page_bytes == page_bytes,
      "is of another model",
      path);
}

} // namespace

uint64_t page_file_bytes(size_t tokens, uint64_t page_bytes) {
  return page_offset(tokens) + round_up(page_bytes, NewFile::kBlockBytes);
}

void write_page_file(
    const std::filesystem::path& path,
    const PageLabel& label,
    std::span<const std::byte> page,
    std::span<std::byte> buffer) {
  std::vector<std::byte> head(page_offset(label.tokens.size()));
  const Header header = make_header(label, page);
  std::memcpy(head.data(), &header, sizeof(header));
  const auto tokens = std::as_bytes(label.tokens);
  std::memcpy(head.data() + kTokensOffset, tokens.data(), tokens.size());
  NewFile file(path, buffer);
  file.append(head);
  file.append(page);
  file.finish();
}

void read_page_file(
    const std::filesystem::path& path,
    const PageLabel& label,
    std::span<std::byte> page) {
  const DirectFile file(path);
  require(
      file.size() == page_file_bytes(label.tokens.size(), page.size()),
      "has another size than its page needs",
      path);
  std::vector<std::byte> head(page_offset(label.tokens.size()));
  file.read_exactly(0, head);
  Header header;
  std::memcpy(&header, head.data(), sizeof(header));
  check_header(header, label, page.size(), path);
  const auto tokens = std::as_bytes(label.tokens);
  require(
      header.tokens == label.tokens.size() &&
          std::memcmp(
              head.data() + kTokensOffset, tokens.data(), tokens.size()) == 0,
      "is of another text",
      path);
  file.read_exactly(head.size(), page);
  require(header.page == hash_of(page), "is damaged", path);
}

} // namespace mlx_flash
