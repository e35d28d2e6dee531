// One page of what a model knows of a text, such as the keys and values of some
// of its tokens, as a file. The file says what it is of: which model, computed
// how, and every token up to the page's end, because what a model knows of a
// token depends on all before it.
//
// The format, version 1. Numbers are little-endian; hashes are XXH3's.
//   0   8 bytes  "MLXFPAGE"
//   8   u32      version
//   12  u32      kind of page: 1, keys and values
//   16  u64[2]   hash of what says the model and how it is computed
//   32  u64      tokens of the text up to the page's end
//   40  u64      bytes of the page
//   48  u64[2]   hash of the page
//   64  u64      hash of what is before
//   128 u32[]    the tokens
// then, at the next multiple of 4096, the page, and zeros up to such a
// multiple.
//
// Thread rule: free functions without state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "storage/hash.h"

namespace mlx_flash {

// Other kinds of state than keys and values get numbers of their own.
enum class PageKind : uint32_t { keys_and_values = 1 };

struct PageLabel {
  Hash128 model{};
  std::span<const uint32_t> tokens{}; // of the text up to the page's end
  PageKind kind = PageKind::keys_and_values;
};

// Of a whole file.
uint64_t page_file_bytes(size_t tokens, uint64_t page_bytes);

// The file has its name once it is complete. `buffer` as NewFile asks for.
// Throws Error(io).
void write_page_file(
    const std::filesystem::path& path,
    const PageLabel& label,
    std::span<const std::byte> page,
    std::span<std::byte> buffer);

// Throws Error(io), with what is wrong, unless the file is what the label says,
// has a page of just that size and is undamaged.
void read_page_file(
    const std::filesystem::path& path,
    const PageLabel& label,
    std::span<std::byte> page);

} // namespace mlx_flash
