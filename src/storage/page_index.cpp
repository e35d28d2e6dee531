#include "storage/page_index.h"

#include <utility>

#include "base/check.h"

namespace mlx_flash {

void PageIndex::add(Page page) {
  remove(page.name);
  order_of(page).insert({page.last_use, page.name});
  bytes_of(page) += page.bytes;
  std::string name = page.name;
  pages_.emplace(std::move(name), std::move(page));
}

const PageIndex::Page* PageIndex::find(const std::string& name) const {
  const auto found = pages_.find(name);
  return found == pages_.end() ? nullptr : &found->second;
}

void PageIndex::use(const std::string& name, Time now) {
  const Page* found = find(name);
  MLX_FLASH_CHECK(found != nullptr);
  add({found->name, found->bytes, now, true});
}

void PageIndex::remove(const std::string& name) {
  const auto found = pages_.find(name);
  if (found != pages_.end()) {
    const Page& page = found->second;
    order_of(page).erase({page.last_use, page.name});
    bytes_of(page) -= page.bytes;
    pages_.erase(found);
  }
}

const PageIndex::Page* PageIndex::least() const {
  const bool crowded = again_bytes_ > most_bytes_ / 4 * 3;
  const Order& order = once_.empty() || crowded ? again_ : once_;
  return order.empty() ? nullptr : find(order.begin()->second);
}

} // namespace mlx_flash
