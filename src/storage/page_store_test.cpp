#include "storage/page_store.h"

#include <sys/stat.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <thread>

#include "base/rng.h"
#include "mlx_flash/error.h"
#include "platform/direct_file.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

constexpr uint32_t kPageTokens = 4;
constexpr uint64_t kPageBytes = 5000;
constexpr uint64_t kFileBytes = 3 * 4096;

using Text = std::vector<uint32_t>;

struct Folder {
  TempFolder temp;
  uint64_t bytes = 1 << 20;
  std::string model = "a model";

  std::filesystem::path path() const {
    return temp.path() / "pages";
  }
  PageStoreOptions options() const {
    return {path(), bytes, model, kPageBytes, kPageTokens};
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& each : std::filesystem::directory_iterator(path())) {
      if (each.path().filename() != "lock") {
        found.push_back(each.path());
      }
    }
    return found;
  }
};

Text text(size_t length, uint32_t first = 0) {
  Text tokens(length);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// What a page of the text up to its end holds, which others do not.
std::vector<std::byte> page_of(const PageStore::Tokens& tokens) {
  uint64_t seed = tokens.size();
  for (const uint32_t token : tokens) {
    seed = seed * 31 + token;
  }
  Rng rng(seed);
  std::vector<std::byte> page(kPageBytes);
  for (std::byte& each : page) {
    each = static_cast<std::byte>(rng.next());
  }
  return page;
}

// All whole pages.
void write_all(PageStore& store, const Text& tokens) {
  for (size_t end = kPageTokens; end <= tokens.size(); end += kPageTokens) {
    const auto part = std::span(tokens).first(end);
    store.write(part, page_of(part));
  }
}

bool has(PageStore& store, PageStore::Tokens tokens) {
  std::vector<std::byte> page(kPageBytes);
  return store.read(tokens, page) && page == page_of(tokens);
}

} // namespace

TEST_CASE("pages outlive the store that wrote them") {
  const Folder folder;
  const Text tokens = text(18);
  write_all(*std::make_unique<PageStore>(folder.options()), tokens);
  PageStore store(folder.options());
  CHECK(store.find(tokens, 0) == 4); // the whole ones
  CHECK(store.find(tokens, 1) == 3);
  CHECK(store.find(tokens, 4) == 0);
  for (size_t end = kPageTokens; end <= tokens.size(); end += kPageTokens) {
    CHECK(has(store, std::span(tokens).first(end)));
  }
  CHECK(store.counts().files == 4);
  CHECK(store.counts().bytes == 4 * kFileBytes);
  CHECK(store.counts().read == 4);
}

TEST_CASE("a page is of the whole text before it, not of its own tokens") {
  const Folder folder;
  PageStore store(folder.options());
  Text tokens = text(8);
  write_all(store, tokens);
  tokens[0] = 99;
  CHECK(store.find(tokens, 0) == 0);
  CHECK(store.find(tokens, 1) == 0);
  CHECK_FALSE(has(store, tokens));
}

TEST_CASE("pages of another model are kept but not found") {
  Folder folder;
  const Text tokens = text(8);
  write_all(*std::make_unique<PageStore>(folder.options()), tokens);
  folder.model = "another";
  {
    PageStore store(folder.options());
    CHECK(store.find(tokens, 0) == 0);
    CHECK(store.counts().files == 2);
    write_all(store, tokens);
    CHECK(store.counts().files == 4);
  }
  folder.model = "a model";
  CHECK(PageStore(folder.options()).find(tokens, 0) == 2);
}

TEST_CASE("files together never take more than they may") {
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  Folder folder;
  folder.bytes = 10 * kFileBytes + 100;
  std::optional<PageStore> store(folder.options());
  for (int i = 0; i < 60; ++i) {
    const Text tokens = text(4 + 4 * rng.below(4), 100 * rng.below(8));
    write_all(*store, tokens);
    if (rng.below(3) == 0) {
      store->use(tokens);
    }
    if (rng.below(10) == 0) {
      store.reset();
      store.emplace(folder.options());
    }
    uint64_t bytes = 0;
    for (const auto& file : folder.files()) {
      bytes += std::filesystem::file_size(file);
    }
    REQUIRE(bytes <= folder.bytes);
    REQUIRE(bytes == store->counts().bytes);
  }
  CHECK(store->counts().files == 10);
}

TEST_CASE("a store that is opened with less room gives up pages") {
  Folder folder;
  const Text tokens = text(40);
  write_all(*std::make_unique<PageStore>(folder.options()), tokens);
  folder.bytes = 3 * kFileBytes;
  PageStore store(folder.options());
  CHECK(folder.files().size() == 3);
  CHECK(store.find(tokens, 0) == 3); // the last ones went first
}

TEST_CASE("texts that were used again outlive newer ones, over restarts too") {
  Folder folder;
  folder.bytes = 6 * kFileBytes;
  const Text old = text(8);
  {
    PageStore store(folder.options());
    write_all(store, old);
    store.use(old);
  }
  PageStore store(folder.options());
  for (uint32_t i = 1; i < 20; ++i) {
    write_all(store, text(4, 100 * i));
  }
  CHECK(store.find(old, 0) == 2);
  CHECK(store.find(text(4, 1900), 0) == 1);
  CHECK(store.find(text(4, 100), 0) == 0);
}

TEST_CASE("a damaged page is read as if there were none, and removed") {
  const Folder folder;
  const Text tokens = text(4);
  for (const int at : {0, 9, 13, 20, 33, 41, 50, 65, 130, 4096, 4096 + 4999}) {
    CAPTURE(at);
    write_all(*std::make_unique<PageStore>(folder.options()), tokens);
    const auto file = folder.files().at(0);
    {
      std::fstream stream(file, std::ios::in | std::ios::out);
      stream.seekg(at);
      const char byte = static_cast<char>(stream.get() ^ 1);
      stream.seekp(at);
      stream.put(byte);
    }
    PageStore store(folder.options());
    CHECK(store.find(tokens, 0) == 1);
    CHECK_FALSE(has(store, tokens));
    CHECK(store.counts().failed == 1);
    CHECK(folder.files().empty());
    CHECK(store.find(tokens, 0) == 0);
  }
}

TEST_CASE("a page that was cut short is read as if there were none") {
  const Folder folder;
  const Text tokens = text(4);
  for (const uint64_t size : {0, 1, 100, 4096, 12287}) {
    write_all(*std::make_unique<PageStore>(folder.options()), tokens);
    std::filesystem::resize_file(folder.files().at(0), size);
    PageStore store(folder.options());
    CHECK_FALSE(has(store, tokens));
    CHECK(folder.files().empty());
  }
}

TEST_CASE("a file with the name of another text is not taken for it") {
  const Folder folder;
  const Text one = text(4);
  const Text other = text(4, 50);
  write_all(*std::make_unique<PageStore>(folder.options()), one);
  const auto file = folder.files().at(0);
  write_all(*std::make_unique<PageStore>(folder.options()), other);
  for (const auto& each : folder.files()) {
    if (each != file) {
      std::filesystem::rename(file, each);
      break;
    }
  }
  PageStore store(folder.options());
  CHECK_FALSE(has(store, other));
}

TEST_CASE("what a killed process left unfinished is removed") {
  const Folder folder;
  write_all(*std::make_unique<PageStore>(folder.options()), text(4));
  const std::string name = "0123456789abcdef0123456789abcdef";
  std::ofstream(folder.path() / (name + ".page.part")) << "half";
  const std::vector<std::string> others{
      "notes.txt", "film.part", "0123.page.part", name + ".part"};
  for (const std::string& other : others) {
    std::ofstream(folder.path() / other) << "not ours";
  }
  PageStore store(folder.options());
  CHECK(store.counts().files == 1);
  CHECK(folder.files().size() == 1 + others.size());
  for (const std::string& other : others) {
    CHECK(std::filesystem::exists(folder.path() / other));
  }
}

TEST_CASE("a page that cannot be written is not kept, and no error") {
  const Folder folder;
  PageStore store(folder.options());
  std::filesystem::remove_all(folder.path());
  write_all(store, text(8));
  CHECK(store.counts().failed == 2);
  CHECK(store.counts().written == 0);
  CHECK(store.find(text(8), 0) == 0);
}

TEST_CASE("a page that someone removed is no error") {
  const Folder folder;
  PageStore store(folder.options());
  write_all(store, text(4));
  std::filesystem::remove(folder.files().at(0));
  CHECK_FALSE(has(store, text(4)));
  store.use(text(4));
  write_all(store, text(4));
  CHECK(has(store, text(4)));
}

TEST_CASE("a page that is used while it is read is read") {
  Folder folder;
  folder.bytes = 500 * kFileBytes;
  PageStore store(folder.options());
  for (uint32_t first = 0; first < 500; ++first) {
    const Text tokens = text(4, 100 * first);
    write_all(store, tokens);
    std::atomic<bool> used = false;
    std::thread user([&] {
      store.use(tokens); // which renames its file
      used = true;
    });
    while (!used) {
      CHECK(has(store, tokens));
    }
    user.join();
  }
  CHECK(store.counts().failed == 0);
}

TEST_CASE("smaller pages of others do not make it more files") {
  const Folder folder; // room for 85 files
  {
    PageStoreOptions others = folder.options();
    others.model = "a smaller model";
    others.page_bytes = 10;
    PageStore store(others); // with room for 128 of its own
    for (uint32_t first = 0; first < 110; ++first) {
      const Text tokens = text(4, 100 * first);
      store.write(tokens, std::vector<std::byte>(10));
    }
    CHECK(store.counts().files == 110);
  }
  PageStore store(folder.options());
  const size_t most = PageStore::most_files(folder.bytes, kPageBytes);
  CHECK(most < 110);
  CHECK(store.counts().files < most);
  CHECK(store.counts().given_up > 0);
  write_all(store, text(400));
  CHECK(store.counts().files <= most);
}

TEST_CASE("a page that is larger than the store is not kept") {
  Folder folder;
  folder.bytes = kFileBytes - 1;
  PageStore store(folder.options());
  write_all(store, text(4));
  CHECK(folder.files().empty());
}

TEST_CASE("pages are their owner's alone and not in the page cache") {
  const Folder folder;
  PageStore store(folder.options());
  write_all(store, text(4));
  CHECK(has(store, text(4)));
  struct stat info;
  REQUIRE(::stat(folder.files().at(0).c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  if (!folder.temp.is_in_memory()) {
    CHECK(page_cache_bytes(folder.files().at(0)) == 0);
  }
}
