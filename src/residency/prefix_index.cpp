#include "residency/prefix_index.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "base/check.h"

namespace mlx_flash {

struct PrefixIndex::Node {
  Node* parent = nullptr;
  uint64_t hash = 0;
  uint32_t page = 0;
  std::vector<uint32_t> tokens;
  Children children;
  std::list<Node*>::iterator use;
};

namespace {

uint64_t hash_of(std::span<const uint32_t> tokens) {
  return std::hash<std::string_view>()(
      {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
}

} // namespace

PrefixIndex::PrefixIndex(size_t block)
    : block_(block), root_(std::make_unique<Node>()) {
  MLX_FLASH_CHECK(block > 0);
}

// A path may be as deep as a context is long, so nodes do not destroy their
// children from within themselves.
PrefixIndex::~PrefixIndex() {
  while (evict([](uint32_t) { return true; })) {
  }
}

PrefixIndex::Node* PrefixIndex::find_child(
    Node& node,
    std::span<const uint32_t> tokens) {
  const auto [begin, end] = node.children.equal_range(hash_of(tokens));
  for (auto i = begin; i != end; ++i) {
    if (std::equal(
            tokens.begin(),
            tokens.end(),
            i->second->tokens.begin(),
            i->second->tokens.end())) {
      return i->second.get();
    }
  }
  return nullptr;
}

void PrefixIndex::touch_path(Node* last) {
  for (Node* node = last; node != root_.get(); node = node->parent) {
    by_use_.splice(by_use_.end(), by_use_, node->use);
  }
}

std::vector<uint32_t> PrefixIndex::find(std::span<const uint32_t> tokens) {
  std::vector<uint32_t> pages;
  Node* last = root_.get();
  for (; tokens.size() >= block_; tokens = tokens.subspan(block_)) {
    Node* next = find_child(*last, tokens.first(block_));
    if (next == nullptr) {
      break;
    }
    pages.push_back(next->page);
    last = next;
  }
  touch_path(last);
  return pages;
}

std::vector<uint32_t> PrefixIndex::insert(
    std::span<const uint32_t> tokens,
    std::span<const uint32_t> pages) {
  MLX_FLASH_CHECK(pages.size() * block_ <= tokens.size());
  std::vector<uint32_t> taken;
  Node* parent = root_.get();
  for (const uint32_t page : pages) {
    const auto block = tokens.first(block_);
    tokens = tokens.subspan(block_);
    Node* node = find_child(*parent, block);
    if (node == nullptr) {
      auto made = std::make_unique<Node>();
      node = made.get();
      node->parent = parent;
      node->hash = hash_of(block);
      node->page = page;
      node->tokens.assign(block.begin(), block.end());
      node->use = by_use_.insert(by_use_.end(), node); // until touched
      parent->children.emplace(node->hash, std::move(made));
      taken.push_back(page);
    }
    parent = node;
  }
  touch_path(parent);
  return taken;
}

std::optional<uint32_t> PrefixIndex::evict(
    const std::function<bool(uint32_t page)>& may_go) {
  const auto found =
      std::find_if(by_use_.begin(), by_use_.end(), [&](const Node* node) {
        return node->children.empty() && may_go(node->page);
      });
  if (found == by_use_.end()) {
    return std::nullopt;
  }
  Node& node = **found;
  const uint32_t page = node.page;
  by_use_.erase(found);
  auto& siblings = node.parent->children;
  const auto [begin, end] = siblings.equal_range(node.hash);
  siblings.erase(std::find_if(begin, end, [&](const auto& each) {
    return each.second.get() == &node;
  }));
  return page;
}

std::vector<uint32_t> PrefixIndex::removable(
    const std::function<bool(uint32_t page)>& may_go) const {
  std::vector<uint32_t> pages;
  std::unordered_set<const Node*> needed;
  for (const Node* node : by_use_) { // children before their parents
    if (may_go(node->page) && !needed.contains(node)) {
      pages.push_back(node->page);
    } else {
      needed.insert(node->parent);
    }
  }
  return pages;
}

} // namespace mlx_flash
