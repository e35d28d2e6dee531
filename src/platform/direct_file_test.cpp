#include "platform/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/rng.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

std::string random_bytes(size_t size, uint64_t seed) {
  Rng rng(seed);
  std::string bytes(size, '\0');
  for (auto& byte : bytes) {
    byte = static_cast<char>(rng.next());
  }
  return bytes;
}

// Fresh files are dirty, and dirty pages cannot be dropped.
void flush(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  REQUIRE(fd >= 0);
  CHECK(::fsync(fd) == 0);
  ::close(fd);
}

// Reads the file the usual way, so that it is in the page cache.
std::string read_buffered(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

ErrorCode code_of(const std::filesystem::path& path) {
  try {
    DirectFile file(path);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find(path) != std::string::npos);
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

} // namespace

TEST_CASE("direct file: reads at any alignment give the file's bytes") {
  TempFolder folder;
  const std::string bytes = random_bytes((3 << 20) + 777, 1);
  const DirectFile file(folder.write("a", bytes));
  CHECK(file.size() == bytes.size());
  const uint64_t seed = 2;
  CAPTURE(seed);
  Rng rng(seed);
  std::vector<std::byte> out(bytes.size() + 1);
  for (int i = 0; i < 200; ++i) {
    const uint64_t offset = rng.below(bytes.size() + 1);
    const uint64_t most = bytes.size() - offset;
    const uint64_t size = rng.below(std::min<uint64_t>(most, 3 << 20) + 1);
    const uint64_t shift = rng.below(2);
    file.read_exactly(offset, std::span(out).subspan(shift, size));
    CHECK(std::memcmp(&out[shift], &bytes[offset], size) == 0);
  }
  // All of it, in several bounce buffers' worth.
  file.read_exactly(0, std::span(out).first(bytes.size()));
  CHECK(std::memcmp(out.data(), bytes.data(), bytes.size()) == 0);
}

TEST_CASE("direct file: one aligned read is one system call") {
  TempFolder folder;
  const std::string bytes = random_bytes(20000, 3);
  const DirectFile file(folder.write("a", bytes));
  const uint64_t alignment = std::max<uint64_t>(file.alignment(), 512);
  const AlignedBuffer buffer(32768);
  const uint64_t size = round_up(bytes.size(), alignment);
  // The last block is short: the file ends in it.
  CHECK(
      file.read_at(0, buffer.span().first(size)) ==
      static_cast<int64_t>(bytes.size()));
  CHECK(std::memcmp(buffer.data(), bytes.data(), bytes.size()) == 0);
  CHECK(file.read_at(size, buffer.span().first(alignment)) == 0);
}

TEST_CASE("direct file: a read past the end names file, offset and cause") {
  TempFolder folder;
  const DirectFile file(folder.write("weights", random_bytes(1000, 4)));
  std::vector<std::byte> out(200);
  try {
    file.read_exactly(900, out);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::io);
    const std::string text = error.what();
    CHECK(text.find("weights") != std::string::npos);
    CHECK(text.find("offset 900") != std::string::npos);
    CHECK(text.find("ends") != std::string::npos);
  }
}

TEST_CASE("direct file: reading leaves nothing in the page cache") {
  TempFolder folder;
  if (folder.is_in_memory()) {
    MESSAGE("not shown: the working folder is in memory");
    return;
  }
  const auto path = folder.write("a", random_bytes(8 << 20, 5));
  flush(path);
  CHECK(read_buffered(path).size() == 8 << 20);
  REQUIRE(page_cache_bytes(path) > 0); // the measure works
  {
    const DirectFile file(path);
    CHECK(page_cache_bytes(path) == 0); // opening drops what was there
    std::vector<std::byte> out(8 << 20);
    file.read_exactly(0, out);
    CHECK(page_cache_bytes(path) == 0);
    CHECK(read_buffered(path).size() == 8 << 20);
  }
  CHECK(page_cache_bytes(path) == 0); // and so does closing
}

TEST_CASE("direct file: a file on a disk is read directly") {
  // What this test would show on a file system without O_DIRECT is nothing;
  // the fallback has its own test.
  TempFolder folder;
  const auto path = folder.write("a", random_bytes(8192, 6));
#ifdef O_DIRECT
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECT);
  const bool possible = fd >= 0;
  if (possible) {
    ::close(fd);
  }
#else
  const bool possible = true;
#endif
  const DirectFile file(path);
  CHECK(file.is_direct() == possible);
  CHECK((file.alignment() > 1) == possible);
}

#ifdef __linux__
TEST_CASE("direct file: a file system without O_DIRECT is read buffered") {
  // A regular file of 4096 bytes, as its size says, whose reads give less.
  const std::filesystem::path path =
      "/sys/kernel/mm/transparent_hugepage/enabled";
  if (!std::filesystem::exists(path)) {
    return;
  }
  const DirectFile file(path);
  CHECK_FALSE(file.is_direct());
  CHECK(file.alignment() == 1);
  const std::string expected = read_buffered(path);
  std::vector<std::byte> out(expected.size());
  file.read_exactly(0, out);
  CHECK(std::memcmp(out.data(), expected.data(), expected.size()) == 0);
}
#endif

TEST_CASE(
    "direct file: what is no regular file is refused and never waited "
    "for") {
  TempFolder folder;
  CHECK(code_of(folder.path() / "absent") == ErrorCode::not_found);
  CHECK(code_of(folder.path()) == ErrorCode::io);
  const auto pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(code_of(pipe) == ErrorCode::io);
}

TEST_CASE("direct file: symbolic links are followed, and empty files read") {
  TempFolder folder;
  const auto path = folder.write("blob", "0123456789");
  const auto link = folder.path() / "link";
  std::filesystem::create_symlink(path, link);
  const DirectFile file(link);
  CHECK(file.path() == link);
  std::vector<std::byte> out(4);
  file.read_exactly(3, out);
  CHECK(std::memcmp(out.data(), "3456", 4) == 0);

  const DirectFile empty(folder.write("empty", ""));
  CHECK(empty.size() == 0);
  empty.read_exactly(0, {});
}

TEST_CASE("direct file: a moved-from file is closed once") {
  TempFolder folder;
  DirectFile a(folder.write("a", "hello"));
  const int fd = a.descriptor();
  {
    const DirectFile b(std::move(a));
    CHECK(b.descriptor() == fd);
    std::vector<std::byte> out(5);
    b.read_exactly(0, out);
    CHECK(std::memcmp(out.data(), "hello", 5) == 0);
  }
  CHECK(::fcntl(fd, F_GETFD) == -1);
}
