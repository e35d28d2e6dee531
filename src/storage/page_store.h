// Pages of what a model knows of texts, in a folder of files, so that a text
// that was read once need not be read again by later processes. All models may
// share a folder; the files together never take more than they may.
//
// A page is found by a hash of the text up to its end, and taken only if the
// file has that very text (page_file.h): what one user wrote can never stand
// for what another wrote. Damaged files are removed when they are met, and what
// a killed process left unfinished when the folder is opened.
//
// Thread rule: all methods from any thread, but write() from one at a time.
#pragma once

#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "platform/private_folder.h"
#include "storage/page_file.h"
#include "storage/page_index.h"

namespace mlx_flash {

struct PageStoreOptions {
  std::filesystem::path folder; // see PrivateFolder
  uint64_t bytes = 0; // of all files together, at most
  // All that pages depend on beside the text: the model's weights, how they
  // are computed with and how a page is laid out. Others' pages are kept, and
  // are not found.
  std::string model;
  uint64_t page_bytes = 0;
  uint32_t page_tokens = 0;
};

class PageStore {
 public:
  using Tokens = std::span<const uint32_t>;

  struct Counts {
    uint64_t files = 0; // of all models
    uint64_t bytes = 0;
    uint64_t read = 0; // pages, since this was opened
    uint64_t written = 0;
    uint64_t given_up = 0; // for others
    uint64_t failed = 0; // damaged, or not written for want of room
  };

  // There are never more files, nor more than fit `bytes` if all are this
  // model's; what it takes to know of so many.
  static constexpr size_t kMostFiles = 1 << 16;
  static size_t most_files(uint64_t bytes, uint64_t page_bytes);
  static uint64_t memory_bytes(uint64_t bytes, uint64_t page_bytes);

  // Throws Error(io), as PrivateFolder does.
  explicit PageStore(PageStoreOptions options);

  // How many whole pages of `tokens` are here one after the other, from page
  // number `first` on.
  size_t find(Tokens tokens, size_t first) const;

  // Reads the page that ends with the last of `tokens`. False if it is not
  // here, or no longer; `page` then means nothing.
  bool read(Tokens tokens, std::span<std::byte> page);

  // A text begins with these tokens once more.
  void use(Tokens tokens);

  // Keeps the page that ends with the last of `tokens`, unless it is here
  // already. A failure is logged: the page is not kept then.
  void write(Tokens tokens, std::span<const std::byte> page);

  Counts counts() const;

 private:
  std::string name_of(Tokens tokens) const;
  std::vector<std::string> names_of(Tokens tokens) const;
  std::filesystem::path path_of(const PageIndex::Page& page) const;
  std::filesystem::path path_of(const std::string& name) const; // or empty
  PageLabel label_of(Tokens tokens) const;
  void take_in_files();
  void make_room(uint64_t bytes);
  void give_up_damaged(const std::string& name, const char* why);
  void remove(const PageIndex::Page& page);

  const PageStoreOptions options_;
  const Hash128 model_;
  const PrivateFolder folder_;
  const AlignedBuffer buffer_; // write()'s
  mutable std::mutex mutex_; // of what follows
  PageIndex index_;
  const size_t most_files_;
  Counts counts_;
};

} // namespace mlx_flash
