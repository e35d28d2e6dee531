// All readers must give the same bytes for the same requests: what the naive
// reader, a memcpy from the test's own copy of the files, gives.
#include "storage/reader.h"
#include "storage/uring_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

#include <doctest/doctest.h>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/rng.h"
#include "platform/temp_folder.h"
#include "storage/memory_reader.h"
#include "storage/pread_reader.h"

#ifdef MLX_FLASH_HAVE_URING
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

using namespace mlx_flash;

namespace {

namespace fs = std::filesystem;

// Some files, on disk and in memory.
struct Files {
  explicit Files(std::initializer_list<size_t> sizes) {
    Rng rng(31);
    for (const size_t size : sizes) {
      std::string bytes(size, '\0');
      for (auto& byte : bytes) {
        byte = static_cast<char>(rng.next());
      }
      paths.push_back(folder.write("f" + std::to_string(paths.size()), bytes));
      const int fd = ::open(paths.back().c_str(), O_RDONLY);
      REQUIRE(fd >= 0);
      REQUIRE(::fsync(fd) == 0);
      ::close(fd);
      contents.push_back(std::move(bytes));
    }
  }

  bool holds(const ReadRequest& request) const {
    return std::memcmp(
               request.dest.data(),
               contents[request.file].data() + request.offset,
               request.dest.size()) == 0;
  }

  TempFolder folder;
  std::vector<fs::path> paths;
  std::vector<std::string> contents;
};

// Many containers refuse io_uring.
bool uring_is_allowed() {
  try {
    make_reader("uring", {}, {});
    return true;
  } catch (const Error& error) {
    MESSAGE(error.what());
    return false;
  }
}

std::vector<std::string> kinds() {
  std::vector<std::string> all = {"pread", "memory"};
  static const bool uring = uring_is_allowed();
  if (uring) {
    all.push_back("uring");
  }
  return all;
}

std::unique_ptr<Reader> open_reader(
    const std::string& kind,
    const Files& files,
    const ReaderOptions& options = {}) {
  if (kind == "memory") {
    return MemoryReader::load(files.paths, {});
  }
  return make_reader(kind, files.paths, options);
}

// Waits for all; by tag, the error or an empty text.
std::map<uint64_t, std::string> finish(Reader& reader) {
  std::vector<ReadCompletion> completions;
  while (reader.wait(completions) > 0) {
  }
  CHECK(reader.outstanding() == 0);
  std::map<uint64_t, std::string> by_tag;
  for (const auto& completion : completions) {
    CHECK_FALSE(by_tag.contains(completion.tag));
    by_tag[completion.tag] = completion.error.value_or("");
  }
  return by_tag;
}

std::vector<DirectFile> opened(const Files& files) {
  std::vector<DirectFile> result;
  result.reserve(files.paths.size());
  for (const auto& path : files.paths) {
    result.emplace_back(path);
  }
  return result;
}

} // namespace

TEST_CASE("reader: every kind reads any range at any alignment") {
  const Files files({3'000'001, 4096, 1, 777'777});
  const uint64_t seed = 32;
  CAPTURE(seed);
  for (const auto& kind : kinds()) {
    for (const auto& [depth, staged] : {
             std::pair(1, 1),
             std::pair(3, 16),
             std::pair(16, 16),
             std::pair(16, 1),
             std::pair(64, 3),
         }) {
      CAPTURE(kind);
      CAPTURE(depth);
      CAPTURE(staged);
      const auto reader = open_reader(kind, files, {depth, 16 << 10, staged});
      CHECK(reader->name() == kind);
      Rng rng(seed);
      const AlignedBuffer memory(8 << 20);
      for (int round = 0; round < 6; ++round) {
        std::vector<ReadRequest> requests;
        size_t used = 0;
        while (requests.size() < 60) {
          const auto file = static_cast<uint32_t>(rng.below(4));
          const size_t size = files.contents[file].size();
          uint64_t offset = rng.below(size + 1);
          size_t bytes = rng.below(
              std::min<size_t>(size - offset, rng.below(2) ? 300'000 : 5000) +
              1);
          // Sometimes aligned, or off by the same number of bytes with room
          // around, so that nothing needs staging.
          const bool aligned = rng.below(4) == 0;
          const bool alike = rng.below(3) == 0;
          size_t at = used;
          if (aligned) {
            offset = offset / 4096 * 4096;
            bytes = std::min<size_t>(bytes / 4096 * 4096, size - offset);
          }
          if (aligned || alike) {
            at = (used + 4095) / 4096 * 4096 + offset % 4096;
          }
          if (at + bytes + 4096 > memory.size()) {
            break;
          }
          requests.push_back(
              {file,
               offset,
               memory.span().subspan(at, bytes),
               1000 + requests.size(),
               alike ? uint64_t{4096} : 1});
          used = at + bytes + rng.below(3);
          if (alike) {
            used = (used + 4095) / 4096 * 4096;
          }
        }
        std::memset(memory.data(), 0x5A, memory.size());
        // In two batches, so that one is submitted while the other runs.
        const size_t half = rng.below(requests.size() + 1);
        reader->submit(std::span(requests).first(half));
        std::vector<ReadCompletion> early;
        reader->poll(early);
        reader->submit(std::span(requests).subspan(half));
        CHECK(reader->outstanding() == requests.size() - early.size());
        auto done = finish(*reader);
        for (const auto& completion : early) {
          done[completion.tag] = completion.error.value_or("");
        }
        REQUIRE(done.size() == requests.size());
        for (const auto& request : requests) {
          REQUIRE(done.at(request.tag).empty());
          REQUIRE(files.holds(request));
        }
      }
    }
  }
}

TEST_CASE("reader: nothing outside of the destination is written") {
  const Files files({100'000});
  for (const auto& kind : kinds()) {
    CAPTURE(kind);
    const auto reader = open_reader(kind, files, {4, 16 << 10});
    std::vector<std::byte> memory(60'000, std::byte(0x5A));
    const ReadRequest request{
        0, 1234, std::span(memory).subspan(100, 50'001), 1};
    reader->submit({&request, 1});
    finish(*reader);
    CHECK(files.holds(request));
    const auto untouched = [](std::byte b) { return b == std::byte(0x5A); };
    CHECK(std::all_of(memory.begin(), memory.begin() + 100, untouched));
    CHECK(std::all_of(memory.begin() + 100 + 50'001, memory.end(), untouched));
  }
}

TEST_CASE("reader: waiting with nothing outstanding returns at once") {
  const Files files({1000});
  for (const auto& kind : kinds()) {
    CAPTURE(kind);
    const auto reader = open_reader(kind, files);
    std::vector<ReadCompletion> completions;
    CHECK(reader->wait(completions) == 0);
    CHECK(reader->poll(completions) == 0);
    CHECK(completions.empty());
    const ReadRequest nothing{0, 500, {}, 7};
    reader->submit({&nothing, 1});
    CHECK(reader->wait(completions) == 1);
    CHECK(completions.at(0).tag == 7);
    CHECK_FALSE(completions.at(0).error);
  }
}

TEST_CASE("reader: ranges past the end are errors that name file and offset") {
  const Files files({10'000, 20});
  for (const auto& kind : kinds()) {
    CAPTURE(kind);
    const auto reader = open_reader(kind, files);
    std::vector<std::byte> memory(400);
    const std::span<std::byte> all(memory);
    const ReadRequest requests[] = {
        {0, 9'901, all.first(100), 1},
        {0, UINT64_MAX - 10, all.subspan(100, 100), 2},
        {1, 0, all.subspan(200, 100), 3},
        {9, 0, all.subspan(300, 50), 4},
        {0, 9'900, all.subspan(300, 100), 5}};
    reader->submit(requests);
    const auto done = finish(*reader);
    REQUIRE(done.size() == 5);
    CHECK(
        done.at(1).find("f0: reading 100 bytes at offset 9901 failed") !=
        std::string::npos);
    CHECK(done.at(1).find("ends") != std::string::npos);
    CHECK(done.at(2).find("offset 18446744073709551605") != std::string::npos);
    CHECK(done.at(3).find("f1") != std::string::npos);
    CHECK_FALSE(done.at(4).empty());
    CHECK(done.at(5).empty()); // the reader goes on
    CHECK(files.holds(requests[4]));
  }
}

TEST_CASE("reader: a file that was cut short after opening is an error") {
  for (const auto& kind : kinds()) {
    if (kind == "memory") {
      continue;
    }
    CAPTURE(kind);
    const Files files({1 << 20, 5000});
    const auto reader = open_reader(kind, files, {4, 16 << 10});
    fs::resize_file(files.paths[0], 300'123);
    std::vector<std::byte> memory((1 << 20) + 5000);
    const ReadRequest requests[] = {
        {0, 3, std::span(memory).first((1 << 20) - 3), 1},
        {1, 5, std::span(memory).subspan(1 << 20, 4000), 2}};
    reader->submit(requests);
    const auto done = finish(*reader);
    CAPTURE(done.at(1));
    CHECK(
        done.at(1).find("f0: reading 1048573 bytes at offset 3 failed: the "
                        "file is cut short") != std::string::npos);
    CHECK(done.at(2).empty());
    CHECK(files.holds(requests[1]));
  }
}

TEST_CASE("reader: the page cache stays empty") {
  const Files files({8 << 20});
  for (const auto& kind : kinds()) {
    if (kind == "memory" || files.folder.is_in_memory()) {
      continue;
    }
    CAPTURE(kind);
    const auto reader = open_reader(kind, files);
    std::vector<std::byte> memory(8 << 20);
    std::vector<ReadRequest> requests;
    for (size_t at = 0; at + 70'000 < memory.size(); at += 70'000) {
      requests.push_back(
          {0, at, std::span(memory).subspan(at, 70'000), requests.size()});
    }
    reader->submit(requests);
    CHECK(finish(*reader).size() == requests.size());
    CHECK(page_cache_bytes(files.paths[0]) == 0);
  }
}

TEST_CASE("reader: device bytes count whole windows, staging is what is held") {
  const Files files({1 << 20});
  for (const auto& kind : kinds()) {
    CAPTURE(kind);
    const auto reader = open_reader(kind, files, {4, 64 << 10});
    if (kind == "memory") {
      CHECK(reader->staging_bytes() == 0);
    } else {
      CHECK(reader->staging_bytes() == 4 * (64 << 10));
    }
    CHECK(reader->device_bytes() == 0);
    std::vector<std::byte> memory(100'000);
    const ReadRequest request{0, 100, memory, 1};
    reader->submit({&request, 1});
    finish(*reader);
    CHECK(reader->device_bytes() >= 100'000);
    // Two windows, each with an aligned block too much at both ends.
    CHECK(reader->device_bytes() <= 100'000 + 4 * 4096);
  }
}

TEST_CASE("reader: once it is destroyed, nothing writes into destinations") {
  const Files files({16 << 20});
  for (const auto& kind : kinds()) {
    CAPTURE(kind);
    for (int i = 0; i < 5; ++i) {
      // Aligned, so that the device itself writes into it.
      const AlignedBuffer memory(16 << 20);
      std::vector<ReadRequest> requests;
      for (size_t at = 0; at < memory.size(); at += 1 << 20) {
        requests.push_back({0, at, memory.span().subspan(at, 1 << 20), at});
      }
      auto reader = open_reader(kind, files, {16, 1 << 20});
      reader->submit(requests);
      reader.reset();
      std::memset(memory.data(), 0x77, memory.size());
      // Time for a late write to arrive.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      CHECK(std::all_of(
          memory.data(), memory.data() + memory.size(), [](std::byte b) {
            return b == std::byte(0x77);
          }));
    }
  }
}

TEST_CASE("reader: options that make no sense are refused") {
  const Files files({10});
  const auto code = [&](std::string_view kind, const ReaderOptions& options) {
    try {
      make_reader(kind, files.paths, options);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  CHECK(code("mmap", {}) == ErrorCode::unsupported);
  CHECK(code("auto", {0, 4096}) == ErrorCode::invalid_argument);
  CHECK(code("auto", {5000, 4096}) == ErrorCode::invalid_argument);
  CHECK(code("auto", {4, 0}) == ErrorCode::invalid_argument);
  CHECK(code("auto", {4, 1000}) == ErrorCode::invalid_argument);
  CHECK(code("auto", {4, 4096, 0}) == ErrorCode::invalid_argument);
  CHECK_THROWS_AS(
      make_reader("auto", {files.folder.path() / "absent"}, {}), Error);
}

TEST_CASE("reader: a staging block holds any window of a section, in bounds") {
  CHECK(staging_block_bytes(0) == 16 << 10);
  CHECK(staging_block_bytes(4096) == 16 << 10);
  CHECK(staging_block_bytes(786'432) == 786'432 + 4096);
  CHECK(staging_block_bytes(786'433) == 786'432 + 8192);
  CHECK(staging_block_bytes(1 << 20) == 1 << 20);
  CHECK(staging_block_bytes(UINT64_MAX) == 1 << 20);
  for (uint64_t bytes = 1; bytes < (1 << 20) - 8192; bytes += 997) {
    CHECK(staging_block_bytes(bytes) % 4096 == 0);
    // From the last byte of a page on.
    CHECK(staging_block_bytes(bytes) >= (bytes + 4095 + 4095) / 4096 * 4096);
  }
}

// ---- the pread reader, with results of system calls made up ----

TEST_CASE("pread reader: short and interrupted reads are continued") {
  const Files files({500'000});
  const uint64_t seed = 33;
  CAPTURE(seed);
  std::mutex mutex;
  Rng rng(seed);
  int shortened = 0;
  PreadReader reader(
      opened(files),
      {4, 64 << 10},
      [&](const DirectFile& file,
          uint64_t offset,
          std::span<std::byte> dest) -> int64_t {
        std::lock_guard lock(mutex);
        if (rng.below(4) == 0) {
          return rng.below(2) ? -EINTR : -EAGAIN;
        }
        const int64_t got = file.read_at(offset, dest);
        const auto unit = static_cast<int64_t>(file.alignment());
        if (got > unit && rng.below(2)) {
          ++shortened;
          return unit +
              static_cast<int64_t>(
                     rng.below(static_cast<uint64_t>(got - unit)));
        }
        return got;
      });
  std::vector<std::byte> memory(500'000);
  std::vector<ReadRequest> requests;
  for (size_t at = 0; at < memory.size(); at += 33'333) {
    const size_t bytes = std::min<size_t>(33'333, memory.size() - at);
    requests.push_back({0, at, std::span(memory).subspan(at, bytes), at});
  }
  reader.submit(requests);
  for (const auto& [tag, error] : finish(reader)) {
    CHECK(error.empty());
  }
  CHECK(shortened > 0);
  CHECK(std::memcmp(memory.data(), files.contents[0].data(), 500'000) == 0);
}

TEST_CASE("pread reader: a failed read fails its request and no other") {
  const Files files({1 << 20});
  PreadReader reader(
      opened(files),
      {4, 16 << 10},
      [](const DirectFile& file,
         uint64_t offset,
         std::span<std::byte> dest) -> int64_t {
        // A bad block.
        if (offset <= 550'000 && 550'000 < offset + dest.size()) {
          return -EIO;
        }
        return file.read_at(offset, dest);
      });
  std::vector<std::byte> memory(3 << 20);
  std::vector<ReadRequest> requests;
  for (uint64_t i = 0; i < 10; ++i) {
    requests.push_back(
        {0, i * 100'000, std::span(memory).subspan(i * 100'000, 100'000), i});
  }
  requests.push_back({0, 0, std::span(memory).subspan(1 << 20, 1 << 20), 10});
  reader.submit(requests);
  const auto done = finish(reader);
  REQUIRE(done.size() == 11);
  for (const auto& request : requests) {
    const bool bad = request.offset <= 500'000 &&
        550'000 < request.offset + request.dest.size();
    CAPTURE(request.tag);
    CHECK(done.at(request.tag).empty() == !bad);
    if (bad) {
      CHECK(
          done.at(request.tag)
              .find(
                  "f0: reading " + std::to_string(request.dest.size()) +
                  " bytes at offset " + std::to_string(request.offset) +
                  " failed: " + std::strerror(EIO)) != std::string::npos);
    } else {
      CHECK(files.holds(request));
    }
  }
}

TEST_CASE(
    "pread reader: a read that never has anything more to give is an "
    "error, not a loop") {
  const Files files({100'000});
  PreadReader reader(
      opened(files),
      {1, 16 << 10},
      [](const DirectFile& file, uint64_t, std::span<std::byte>) -> int64_t {
        return file.alignment() - 1; // never a whole block
      });
  std::vector<std::byte> memory(50'000);
  const ReadRequest request{0, 1, memory, 1};
  reader.submit({&request, 1});
  CHECK_FALSE(finish(reader).at(1).empty());
}

// ---- io_uring ----

#ifdef MLX_FLASH_HAVE_URING

namespace {

// From now on this thread may not open a ring, as in most containers.
void forbid_uring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the system call's number
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{4, program};
  REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  REQUIRE(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

} // namespace

TEST_CASE(
    "uring reader: where it is refused, auto takes pread and uring is an "
    "error") {
  const Files files({10'000});
  CHECK(
      make_reader("auto", files.paths, {})->name() ==
      (uring_is_allowed() ? "uring" : "pread"));
  std::thread([&] {
    forbid_uring();
    const auto reader = make_reader("auto", files.paths, {});
    CHECK(reader->name() == "pread");
    std::vector<std::byte> memory(9000);
    const ReadRequest request{0, 999, memory, 1};
    reader->submit({&request, 1});
    CHECK(finish(*reader).at(1).empty());
    CHECK(files.holds(request));
    try {
      make_reader("uring", files.paths, {});
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported);
      CHECK(
          std::string(error.what()).find("not permitted") != std::string::npos);
    }
  }).join();
}

namespace {

// From now on the limit on locked memory holds for this thread, root or not.
void forbid_locking() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  REQUIRE(::syscall(SYS_capget, &header, data) == 0);
  data[0].effective &= ~(1u << CAP_IPC_LOCK);
  REQUIRE(::syscall(SYS_capset, &header, data) == 0);
}

} // namespace

TEST_CASE(
    "uring reader: without locked memory it does without registered "
    "blocks") {
  if (!uring_is_allowed()) {
    return;
  }
  const Files files({2'000'000});
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &before) == 0);
  const rlimit little{16 << 10, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &little) == 0);
  std::thread([&] {
    forbid_locking();
    const auto reader = make_reader("auto", files.paths, {4, 16 << 10});
    CHECK(reader->name() == "uring");
    std::vector<std::byte> memory(1'000'000);
    const ReadRequest request{0, 321, memory, 1};
    reader->submit({&request, 1});
    CHECK(finish(*reader).at(1).empty());
    CHECK(files.holds(request));
  }).join();
  ::setrlimit(RLIMIT_MEMLOCK, &before);
}

#endif

// A ring that the kernel refuses to take more from, at one submission or from
// one on.
TEST_CASE("uring reader: a ring that fails is given up, and nothing is lost") {
  if (!uring_is_allowed()) {
    return;
  }
  const Files files({3'000'001, 777'777});
  for (const int first : {0, 1, 2, 3, 5, 8, 13}) {
    CAPTURE(first);
    auto direct = opened(files);
    std::string refused;
    int calls = 0;
    const auto reader =
        make_uring_reader(direct, {4, 16 << 10}, refused, [&calls, first] {
          return calls++ >= first ? -ENOMEM : 0;
        });
    REQUIRE(reader);
    const AlignedBuffer memory(8 << 20);
    Rng rng(7);
    std::vector<ReadRequest> requests;
    size_t used = 0;
    for (uint64_t tag = 0; tag < 40; ++tag) {
      const auto file = static_cast<uint32_t>(rng.below(2));
      const uint64_t bytes = 1 + rng.below(100'000);
      const uint64_t offset = rng.below(files.contents[file].size() - bytes);
      requests.push_back(
          {file, offset, memory.span().subspan(used, bytes), tag});
      used += bytes;
    }
    reader->submit(requests);
    const auto errors = finish(*reader);
    CHECK(errors.size() == requests.size());
    for (const auto& request : requests) {
      CHECK(errors.at(request.tag).empty());
      CHECK(files.holds(request));
    }
    CHECK(calls > first);
  }
}

TEST_CASE(
    "uring reader: one that fails can be destroyed with reads in flight") {
  if (!uring_is_allowed()) {
    return;
  }
  const Files files({3'000'001});
  for (const int first : {0, 1, 2}) {
    auto direct = opened(files);
    std::string refused;
    int calls = 0;
    const AlignedBuffer memory(2 << 20);
    auto reader =
        make_uring_reader(direct, {4, 16 << 10}, refused, [&calls, first] {
          return calls++ >= first ? -ENOMEM : 0;
        });
    REQUIRE(reader);
    const ReadRequest request{0, 5, memory.span().first(1 << 20), 1};
    reader->submit({&request, 1});
    reader.reset();
  }
}
