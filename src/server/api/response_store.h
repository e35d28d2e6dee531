// Answers of /v1/responses that clients may come back to: to go on with the
// conversation (previous_response_id), to name an item of an answer, to read
// one again or to delete it. In memory alone, and bounded: those that were
// used least recently go first. What is in the items is up to
// openai_responses_items.h.
//
// Thread rule: all methods from any thread.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace mlx_flash::server {

// A message, a call, its result or a piece of reasoning.
struct StoredItem {
  std::string id;
  std::string json; // as it is sent to clients
};
using ItemPtr = std::shared_ptr<const StoredItem>;

struct StoredResponse {
  std::string id;
  std::string json; // the whole Response object
  // All that it is the answer to, earlier answers included.
  std::vector<ItemPtr> input;
  std::vector<ItemPtr> output;
};

class ResponseStore {
 public:
  // What responses share counts once: a conversation of many answers holds
  // its items, not copies of them.
  ResponseStore(uint64_t most_responses, uint64_t most_bytes);

  // One that is larger than the store is not kept.
  void put(StoredResponse response);

  // Null for one that is not (or no longer) here. It counts as used now.
  std::shared_ptr<const StoredResponse> find(const std::string& id);
  // An item of an answer, as long as a response here needs it.
  ItemPtr find_item(const std::string& id);
  bool erase(const std::string& id);

  size_t size() const;
  uint64_t bytes() const;

 private:
  using Responses = std::list<std::shared_ptr<const StoredResponse>>;

  void count(const StoredResponse& response);
  void remove(Responses::iterator at);

  const uint64_t most_responses_;
  const uint64_t most_bytes_;

  mutable std::mutex mutex_;
  Responses by_use_; // the least recent first
  std::unordered_map<std::string, Responses::iterator> by_id_;
  // How many responses an item is part of.
  std::unordered_map<const StoredItem*, size_t> uses_;
  std::unordered_map<std::string, ItemPtr> outputs_; // by their ids
  uint64_t bytes_ = 0;
};

} // namespace mlx_flash::server
