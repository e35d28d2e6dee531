#include "server/api/response_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "base/rng.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

ItemPtr item(const std::string& id, size_t bytes = 10) {
  return std::make_shared<const StoredItem>(
      StoredItem{id, std::string(bytes, 'x')});
}

StoredResponse response(
    const std::string& id,
    std::vector<ItemPtr> input = {},
    std::vector<ItemPtr> output = {}) {
  return {id, "{}", std::move(input), std::move(output)};
}

constexpr uint64_t kMany = 1u << 30;

} // namespace

TEST_CASE("response store: a response is found until it is erased") {
  ResponseStore store(4, kMany);
  CHECK(store.find("resp_1") == nullptr);
  store.put(response("resp_1", {item("msg_1")}, {item("msg_2")}));
  REQUIRE(store.find("resp_1") != nullptr);
  CHECK(store.find("resp_1")->input.at(0)->id == "msg_1");
  CHECK(store.find("resp_1")->output.at(0)->id == "msg_2");

  CHECK(store.erase("resp_1"));
  CHECK_FALSE(store.erase("resp_1"));
  CHECK(store.find("resp_1") == nullptr);
  CHECK(store.size() == 0);
  CHECK(store.bytes() == 0);
}

TEST_CASE("response store: the least recently used response goes first") {
  ResponseStore store(2, kMany);
  store.put(response("a"));
  store.put(response("b"));
  store.find("a"); // so b is the oldest
  store.put(response("c"));
  CHECK(store.find("b") == nullptr);
  CHECK(store.find("a") != nullptr);
  CHECK(store.find("c") != nullptr);
}

TEST_CASE("response store: old responses go when there are too many bytes") {
  ResponseStore store(1000, 10000);
  for (int i = 0; i < 20; ++i) {
    store.put(response(std::to_string(i), {item("i", 1500)}));
    CHECK(store.bytes() <= 10000);
  }
  CHECK(store.find("19") != nullptr);
  CHECK(store.find("0") == nullptr);
  CHECK(store.size() >= 3);
}

TEST_CASE("response store: one that is too large leaves the others alone") {
  ResponseStore store(1000, 10000);
  store.put(response("small"));
  store.put(response("large", {item("i", 20000)}));
  CHECK(store.find("large") == nullptr);
  CHECK(store.find("small") != nullptr);

  ResponseStore none(0, kMany);
  none.put(response("a"));
  CHECK(none.size() == 0);
}

TEST_CASE("response store: what responses share counts once") {
  ResponseStore store(1000, 100000);
  const ItemPtr shared = item("msg_1", 50000);
  store.put(response("a", {shared}));
  const uint64_t first = store.bytes();
  store.put(response("b", {shared}));
  CHECK(store.bytes() - first < 1000);
  store.erase("a");
  CHECK(store.bytes() == first);
  store.erase("b");
  CHECK(store.bytes() == 0);
}

TEST_CASE("response store: an item of an answer is found while it is needed") {
  ResponseStore store(10, kMany);
  const ItemPtr answer = item("msg_answer");
  store.put(response("a", {item("msg_question")}, {answer}));
  CHECK(store.find_item("msg_answer") == answer);
  CHECK(store.find_item("msg_question") == nullptr); // what a client called it
  store.put(response("b", {answer}, {item("msg_next")}));
  store.erase("a");
  CHECK(store.find_item("msg_answer") == answer);
  store.erase("b");
  CHECK(store.find_item("msg_answer") == nullptr);
}

TEST_CASE(
    "response store: a response of the same id replaces the earlier one") {
  ResponseStore store(10, kMany);
  store.put(response("a", {item("1", 5000)}));
  store.put(response("a", {item("2", 10)}));
  CHECK(store.size() == 1);
  CHECK(store.find("a")->input.at(0)->id == "2");
  CHECK(store.bytes() < 5000);
}

TEST_CASE("response store: any order of calls leaves nothing behind") {
  const uint64_t seed = 20240607;
  CAPTURE(seed);
  Rng rng(seed);
  ResponseStore store(20, 40000);
  std::set<std::string> ids;
  std::vector<ItemPtr> conversation;
  for (int i = 0; i < 3000; ++i) {
    if (rng.below(10) == 0) {
      conversation.clear();
    }
    if (rng.below(4) == 0 && !ids.empty()) {
      const auto any = std::next(ids.begin(), rng.below(ids.size()));
      store.erase(*any);
      ids.erase(any);
    } else {
      const std::string id = std::to_string(rng.below(100));
      const ItemPtr output = item("msg_" + std::to_string(i), rng.below(2000));
      store.put(response(id, conversation, {output}));
      conversation.push_back(output);
      ids.insert(id);
    }
    CHECK(store.size() <= 20);
    CHECK(store.bytes() <= 40000);
  }
  for (const std::string& id : ids) {
    store.erase(id);
  }
  CHECK(store.size() == 0);
  CHECK(store.bytes() == 0);
}

TEST_CASE("response store: many threads at once") {
  ResponseStore store(8, 20000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store, t] {
      for (int i = 0; i < 500; ++i) {
        const std::string id = std::to_string((t + i) % 16);
        store.put(response(id, {item("in")}, {item("msg_" + id)}));
        store.find(std::to_string(i % 16));
        store.find_item("msg_" + id);
        store.erase(std::to_string((i * 7) % 16));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(store.size() <= 8);
}
