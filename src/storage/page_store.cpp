#include "storage/page_store.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "platform/new_file.h"

namespace mlx_flash {

namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kBytesPerEntry = 384; // of the index; 347 were measured
constexpr size_t kNameDigits = 32;

// Whether a page was used again is kept in its file's name, and when it was
// used last is the file's time: nothing has to be written for that.
constexpr const char* kOnce = ".page";
constexpr const char* kAgain = ".used";

// Names of the pages of a text, from the first on.
class Namer {
 public:
  explicit Namer(const Hash128& model) : state_(make_hash_state()) {
    XXH3_128bits_reset(state_.get());
    XXH3_128bits_update(state_.get(), model.data(), sizeof(model));
  }
  std::string next(std::span<const uint32_t> tokens) {
    XXH3_128bits_update(state_.get(), tokens.data(), tokens.size_bytes());
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return hex({hash.low64, hash.high64});
  }

 private:
  const HashState state_;
};

bool is_name(const std::string& text) {
  return text.size() == kNameDigits &&
      text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_unfinished(const std::filesystem::path& path) {
  const auto page = path.stem();
  return path.extension() == NewFile::kUnfinished &&
      page.extension() == kOnce && is_name(page.stem().string());
}

// Empty for files that are not pages.
std::optional<PageIndex::Page> page_of(
    const std::filesystem::directory_entry& entry) {
  const std::filesystem::path path = entry.path();
  const std::string name = path.stem().string();
  const bool again = path.extension() == kAgain;
  std::error_code error;
  if (!is_name(name) || !(again || path.extension() == kOnce) ||
      !entry.is_regular_file(error) || error) {
    return std::nullopt;
  }
  const uint64_t bytes = entry.file_size(error);
  const auto last_use = entry.last_write_time(error);
  return error ? std::nullopt
               : std::optional(PageIndex::Page{name, bytes, last_use, again});
}

// A page counts as used before the one in front of it, without which it is of
// no use.
constexpr std::chrono::microseconds kBetweenPages(1);

} // namespace

// Others' pages may be smaller, but there are no more files for that.
size_t PageStore::most_files(uint64_t bytes, uint64_t page_bytes) {
  const uint64_t files = bytes / page_file_bytes(0, page_bytes) + 1;
  return std::min<uint64_t>(files, kMostFiles);
}

uint64_t PageStore::memory_bytes(uint64_t bytes, uint64_t page_bytes) {
  return 2 * kBufferBytes + // of writing and of reading
      kBytesPerEntry * most_files(bytes, page_bytes);
}

PageStore::PageStore(PageStoreOptions options)
    : options_(std::move(options)),
      model_(hash_of(std::as_bytes(std::span(options_.model)))),
      folder_(options_.folder),
      buffer_(kBufferBytes),
      index_(options_.bytes),
      most_files_(most_files(options_.bytes, options_.page_bytes)) {
  MLX_FLASH_CHECK(options_.page_tokens > 0 && options_.page_bytes > 0);
  take_in_files();
  make_room(0);
}

void PageStore::take_in_files() {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder_.path(), error);
  for (; !error && entries != std::filesystem::directory_iterator();
       entries.increment(error)) {
    if (is_unfinished(entries->path())) {
      std::error_code ignored;
      std::filesystem::remove(entries->path(), ignored);
    } else if (auto page = page_of(*entries)) {
      // First, so that the index never takes more memory than is planned.
      make_room(0);
      index_.add(std::move(*page));
    }
  }
  if (error) {
    fail(
        ErrorCode::io,
        "[prompt-cache] {} cannot be read: {}",
        folder_.path().string(),
        error.message());
  }
}

std::string PageStore::name_of(Tokens tokens) const {
  return Namer(model_).next(tokens);
}

// Of all whole pages.
std::vector<std::string> PageStore::names_of(Tokens tokens) const {
  std::vector<std::string> names;
  Namer namer(model_);
  for (; tokens.size() >= options_.page_tokens;
       tokens = tokens.subspan(options_.page_tokens)) {
    names.push_back(namer.next(tokens.first(options_.page_tokens)));
  }
  return names;
}

std::filesystem::path PageStore::path_of(const PageIndex::Page& page) const {
  return folder_.path() / (page.name + (page.again ? kAgain : kOnce));
}

std::filesystem::path PageStore::path_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto* found = index_.find(name);
  return found ? path_of(*found) : std::filesystem::path();
}

PageLabel PageStore::label_of(Tokens tokens) const {
  return {model_, tokens, PageKind::keys_and_values};
}

size_t PageStore::find(Tokens tokens, size_t first) const {
  const auto names = names_of(tokens);
  const std::lock_guard lock(mutex_);
  size_t found = 0;
  while (first + found < names.size() && index_.find(names[first + found])) {
    ++found;
  }
  return found;
}

bool PageStore::read(Tokens tokens, std::span<std::byte> page) {
  const std::string name = name_of(tokens);
  for (;;) {
    const auto path = path_of(name);
    if (path.empty()) {
      return false;
    }
    try {
      read_page_file(path, label_of(tokens), page);
      const std::lock_guard lock(mutex_);
      ++counts_.read;
      return true;
    } catch (const Error& error) {
      if (path_of(name) == path) { // else use() has given it another name
        give_up_damaged(name, error.what());
        return false;
      }
    }
  }
}

void PageStore::give_up_damaged(const std::string& name, const char* why) {
  log::warn("[prompt-cache] {}; it is read anew", why);
  const std::lock_guard lock(mutex_);
  ++counts_.failed;
  if (const auto* found = index_.find(name)) {
    remove(*found);
  }
}

void PageStore::use(Tokens tokens) {
  const auto names = names_of(tokens);
  auto time = PageIndex::Time::clock::now();
  for (const std::string& name : names) {
    time -= kBetweenPages;
    const std::lock_guard lock(mutex_);
    const auto* found = index_.find(name);
    if (!found) {
      continue;
    }
    const auto before = path_of(*found);
    index_.use(name, time);
    const auto after = path_of(*index_.find(name));
    std::error_code ignored; // all that it costs is a worse choice later
    if (before != after) {
      std::filesystem::rename(before, after, ignored);
    }
    std::filesystem::last_write_time(after, time, ignored);
  }
}

void PageStore::write(Tokens tokens, std::span<const std::byte> page) {
  PageIndex::Page made{
      name_of(tokens),
      page_file_bytes(tokens.size(), page.size()),
      PageIndex::Time::clock::now(),
      false};
  const std::string before =
      name_of(tokens.first(tokens.size() - options_.page_tokens));
  {
    const std::lock_guard lock(mutex_);
    if (index_.find(made.name) || made.bytes > options_.bytes) {
      return;
    }
    if (const auto* found = index_.find(before)) {
      made.last_use = found->last_use - kBetweenPages;
    }
    make_room(made.bytes);
  }
  const auto path = path_of(made);
  try {
    write_page_file(path, label_of(tokens), page, buffer_.span());
  } catch (const Error& error) {
    const std::lock_guard lock(mutex_);
    if (counts_.failed++ == 0) { // a full disk would say so for each page
      log::warn("[prompt-cache] {}; the page is not kept", error.what());
    }
    return;
  }
  std::error_code ignored;
  std::filesystem::last_write_time(path, made.last_use, ignored);
  const std::lock_guard lock(mutex_);
  index_.add(std::move(made));
  ++counts_.written;
}

// For a file of so many bytes.
void PageStore::make_room(uint64_t bytes) {
  while (index_.bytes() + bytes > options_.bytes ||
         index_.size() >= most_files_) {
    const PageIndex::Page* least = index_.least();
    if (!least) {
      return;
    }
    remove(*least);
    ++counts_.given_up;
  }
}

void PageStore::remove(const PageIndex::Page& page) {
  std::error_code ignored;
  std::filesystem::remove(path_of(page), ignored);
  index_.remove(std::string(page.name)); // which ends `page`
}

PageStore::Counts PageStore::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.files = index_.size();
  counts.bytes = index_.bytes();
  return counts;
}

} // namespace mlx_flash
