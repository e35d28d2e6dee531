#include "server/api/response_store.h"

#include <utility>

namespace mlx_flash::server {

namespace {

// With what the containers take.
uint64_t own_bytes(const StoredResponse& response) {
  return sizeof(StoredResponse) + 128 + response.id.size() +
      response.json.size() +
      (response.input.size() + response.output.size()) * sizeof(ItemPtr);
}

uint64_t item_bytes(const StoredItem& item) {
  return sizeof(StoredItem) + 128 + item.id.size() + item.json.size();
}

template <typename Function>
void each_item(const StoredResponse& response, const Function& function) {
  for (const ItemPtr& item : response.input) {
    function(item);
  }
  for (const ItemPtr& item : response.output) {
    function(item);
  }
}

uint64_t all_bytes(const StoredResponse& response) {
  uint64_t bytes = own_bytes(response);
  each_item(response, [&](const ItemPtr& item) { bytes += item_bytes(*item); });
  return bytes;
}

} // namespace

ResponseStore::ResponseStore(uint64_t most_responses, uint64_t most_bytes)
    : most_responses_(most_responses), most_bytes_(most_bytes) {}

void ResponseStore::put(StoredResponse response) {
  // Else everything else would have to go first.
  if (most_responses_ == 0 || all_bytes(response) > most_bytes_) {
    return;
  }
  std::lock_guard lock(mutex_);
  if (const auto found = by_id_.find(response.id); found != by_id_.end()) {
    remove(found->second);
  }
  const auto at = by_use_.insert(
      by_use_.end(),
      std::make_shared<const StoredResponse>(std::move(response)));
  by_id_.emplace((*at)->id, at);
  count(**at);
  while (by_use_.size() > most_responses_ || bytes_ > most_bytes_) {
    remove(by_use_.begin());
  }
}

void ResponseStore::count(const StoredResponse& response) {
  bytes_ += own_bytes(response);
  each_item(response, [&](const ItemPtr& item) {
    if (++uses_[item.get()] == 1) {
      bytes_ += item_bytes(*item);
    }
  });
  for (const ItemPtr& item : response.output) {
    outputs_[item->id] = item;
  }
}

void ResponseStore::remove(Responses::iterator at) {
  const StoredResponse& response = **at;
  bytes_ -= own_bytes(response);
  each_item(response, [&](const ItemPtr& item) {
    const auto use = uses_.find(item.get());
    if (--use->second == 0) {
      bytes_ -= item_bytes(*item);
      uses_.erase(use);
      const auto output = outputs_.find(item->id);
      if (output != outputs_.end() && output->second == item) {
        outputs_.erase(output);
      }
    }
  });
  by_id_.erase(response.id);
  by_use_.erase(at);
}

std::shared_ptr<const StoredResponse> ResponseStore::find(
    const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) {
    return nullptr;
  }
  by_use_.splice(by_use_.end(), by_use_, found->second);
  return *found->second;
}

ItemPtr ResponseStore::find_item(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = outputs_.find(id);
  return found == outputs_.end() ? nullptr : found->second;
}

bool ResponseStore::erase(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) {
    return false;
  }
  remove(found->second);
  return true;
}

size_t ResponseStore::size() const {
  std::lock_guard lock(mutex_);
  return by_use_.size();
}

uint64_t ResponseStore::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

} // namespace mlx_flash::server
