// Which pages hold the keys and values of which beginnings of texts, so that a
// prompt that begins like an earlier one is read from there on only. A tree: a
// node is one page of tokens behind those of its parents (as vLLM's and
// SGLang's prefix caches have it; Zheng et al., "SGLang", 2023).
//
// It knows page numbers, not pages: whoever owns these (ops/kv_cache.h) keeps
// what is in here alive. Tokens are compared themselves, never their hashes
// alone, so a prompt cannot be given the keys of another.
//
// Thread rule: the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace mlx_flash {

class PrefixIndex {
 public:
  // Of `block` tokens a page.
  explicit PrefixIndex(size_t block);
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // Pages of the longest beginning of `tokens` that is known, in order; whole
  // pages. They count as used now.
  std::vector<uint32_t> find(std::span<const uint32_t> tokens);

  // `pages` hold the whole blocks of `tokens`, in order. Those of blocks that
  // were not known are taken in and returned; of known blocks the page that is
  // in here already stays.
  std::vector<uint32_t> insert(
      std::span<const uint32_t> tokens,
      std::span<const uint32_t> pages);

  // Forgets the page that was used least recently among those that no longer
  // beginning needs and that `may_go`. Empty when there is none.
  std::optional<uint32_t> evict(
      const std::function<bool(uint32_t page)>& may_go);

  // The pages that evict() can come to: those that `may_go`, as all may that
  // hold longer beginnings.
  std::vector<uint32_t> removable(
      const std::function<bool(uint32_t page)>& may_go) const;

  // Pages in here.
  size_t size() const {
    return by_use_.size();
  }

 private:
  struct Node;
  using Children = std::unordered_multimap<uint64_t, std::unique_ptr<Node>>;

  static Node* find_child(Node& node, std::span<const uint32_t> tokens);
  void touch_path(Node* last);

  const size_t block_;
  std::unique_ptr<Node> root_;
  // The least recent first, and of a path the last node first, so that no
  // longer beginning needs the first of all.
  std::list<Node*> by_use_;
};

} // namespace mlx_flash
