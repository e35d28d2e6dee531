#include "engine/engine_thread.h"

#include <doctest/doctest.h>

#include <set>
#include <thread>

using namespace mlx_flash;

TEST_CASE("engine thread: bodies one after another share a thread") {
  std::set<std::thread::id> ids;
  for (int i = 0; i < 20; ++i) {
    EngineThread thread([&] { ids.insert(std::this_thread::get_id()); });
  }
  CHECK(ids.size() == 1);
  CHECK(ids.count(std::this_thread::get_id()) == 0);
}

TEST_CASE("engine thread: bodies at the same time have threads of their own") {
  std::thread::id first;
  std::thread::id second;
  {
    EngineThread a([&] { first = std::this_thread::get_id(); });
    EngineThread b([&] { second = std::this_thread::get_id(); });
  }
  CHECK(first != second);
}
