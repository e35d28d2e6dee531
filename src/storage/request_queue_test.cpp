// What readers rely on; the reading itself is in reader_test.cpp.
#include "storage/request_queue.h"

#include <doctest/doctest.h>

#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

struct Queue {
  Queue() {
    files.reserve(1);
    files.emplace_back(folder.write("f", std::string(100'000, 'x')));
  }

  void push(uint64_t tag, uint64_t bytes) {
    queue.push({0, 1, std::span(memory).first(bytes), tag});
  }
  // The next window; none is a failure.
  uint32_t next() {
    const auto piece = queue.next();
    REQUIRE(piece);
    return piece->request;
  }
  std::vector<ReadCompletion> take() {
    std::vector<ReadCompletion> completions;
    const size_t count = queue.take(completions);
    CHECK(count == completions.size());
    return completions;
  }

  TempFolder folder;
  std::vector<std::byte> memory = std::vector<std::byte>(100'000);
  std::vector<DirectFile> files;
  RequestQueue queue{files, 4096};
};

} // namespace

TEST_CASE("request queue: windows come in the order of the requests") {
  Queue q;
  q.push(1, 10'000); // windows of 4096: three
  q.push(2, 10);
  CHECK(q.queue.outstanding() == 2);
  const uint32_t first = q.next();
  CHECK(q.next() == first);
  CHECK(q.next() == first);
  const uint32_t second = q.next();
  CHECK(second != first);
  CHECK_FALSE(q.queue.has_next());
  CHECK_FALSE(q.queue.next());

  // Complete when the last window has ended, in any order.
  q.queue.finish(first, nullptr);
  q.queue.finish(first, nullptr);
  CHECK(q.take().empty());
  q.queue.finish(second, nullptr);
  CHECK(q.take().at(0).tag == 2);
  q.queue.finish(first, nullptr);
  const auto done = q.take();
  CHECK(done.at(0).tag == 1);
  CHECK_FALSE(done.at(0).error);
  CHECK(q.queue.outstanding() == 0);
}

TEST_CASE(
    "request queue: after an error no further window of the request "
    "begins, and it completes when those that began have ended") {
  Queue q;
  q.push(1, 50'000);
  q.push(2, 10);
  const uint32_t first = q.next();
  q.next();
  q.next();
  const std::string cause = "bad block", later = "another";
  q.queue.finish(first, &cause);
  CHECK(q.next() != first);
  CHECK_FALSE(q.queue.has_next());
  q.queue.finish(first, &later);
  CHECK(q.take().empty());
  q.queue.finish(first, nullptr);
  const auto done = q.take();
  REQUIRE(done.size() == 1);
  CHECK(done[0].tag == 1);
  REQUIRE(done[0].error);
  CHECK(done[0].error->find("offset 1 failed: bad block") != std::string::npos);
}

TEST_CASE("request queue: an error of the last window is the request's") {
  Queue q;
  q.push(1, 10);
  const std::string cause = "bad block";
  q.queue.finish(q.next(), &cause);
  CHECK(q.take().at(0).error);
  q.push(2, 10); // its place is used again
  q.queue.finish(q.next(), nullptr);
  CHECK_FALSE(q.take().at(0).error);
}
