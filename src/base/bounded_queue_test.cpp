#include "base/bounded_queue.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

using namespace mlx_flash;

TEST_CASE("bounded queue: first in, first out") {
  BoundedQueue<int> queue(3);
  for (const int value : {1, 2, 3}) {
    CHECK(queue.push(value));
  }
  CHECK(queue.try_pop() == 1);
  CHECK(queue.push(4));
  CHECK(queue.pop() == 2);
  CHECK(queue.pop() == 3);
  CHECK(queue.pop() == 4);
  CHECK_FALSE(queue.try_pop());
}

TEST_CASE("bounded queue: closed, it drains what is left and then ends") {
  BoundedQueue<int> queue(4);
  CHECK(queue.push(1));
  CHECK(queue.push(2));
  queue.close();
  CHECK_FALSE(queue.push(3));
  CHECK(queue.pop() == 1);
  CHECK(queue.try_pop() == 2);
  CHECK_FALSE(queue.pop());
  CHECK_FALSE(queue.pop());
}

TEST_CASE(
    "bounded queue: a full queue holds its producer until there is room") {
  BoundedQueue<int> queue(2);
  std::atomic<int> pushed = 0;
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) {
      CHECK(queue.push(i));
      ++pushed;
    }
  });
  for (int i = 0; i < 1000; ++i) {
    // All pushed before this pop are popped already or among the two.
    CHECK(pushed <= i + 2);
    CHECK(queue.pop() == i);
  }
  producer.join();
}

TEST_CASE("bounded queue: close wakes who waits for room or for an item") {
  BoundedQueue<int> full(1);
  CHECK(full.push(0));
  BoundedQueue<int> empty(1);
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { refused += !full.push(1); });
    threads.emplace_back([&] { refused += !empty.pop().has_value(); });
  }
  full.close();
  empty.close();
  for (auto& thread : threads) {
    thread.join();
  }
  CHECK(refused == 6);
  CHECK(full.pop() == 0);
}

TEST_CASE("bounded queue: many threads get each item once, in their order") {
  constexpr int kItems = 5000;
  BoundedQueue<std::pair<int, int>> queue(4);
  std::vector<std::thread> producers;
  for (int p = 0; p < 2; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kItems; ++i) {
        queue.push({p, i});
      }
    });
  }
  std::vector<std::vector<std::pair<int, int>>> got(2);
  std::vector<std::thread> consumers;
  for (int c = 0; c < 2; ++c) {
    consumers.emplace_back([&queue, &mine = got[c]] {
      while (const auto item = queue.pop()) {
        mine.push_back(*item);
      }
    });
  }
  for (auto& thread : producers) {
    thread.join();
  }
  queue.close();
  for (auto& thread : consumers) {
    thread.join();
  }
  std::vector<std::vector<int>> seen(2, std::vector<int>(kItems));
  for (const auto& mine : got) {
    int last[2] = {-1, -1};
    for (const auto& [producer, i] : mine) {
      REQUIRE(i > last[producer]);
      last[producer] = i;
      ++seen[producer][i];
    }
  }
  for (const auto& counts : seen) {
    for (const int count : counts) {
      REQUIRE(count == 1);
    }
  }
}
