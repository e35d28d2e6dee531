#include "server/server_memory.h"

#include <doctest/doctest.h>

#include <vector>

#include "server/http/http.h"

using namespace mlx_flash::server;

TEST_CASE("server memory: by default it is modest") {
  CHECK(server_bytes({}) < 105'000'000);
}

TEST_CASE("server memory: every limit that takes some counts") {
  const std::vector<uint64_t ServerLimits::*> all{
      &ServerLimits::connections,
      &ServerLimits::header_bytes,
      &ServerLimits::all_body_bytes,
      &ServerLimits::json_values,
      &ServerLimits::all_unsent_bytes,
      &ServerLimits::stored_response_bytes,
      &ServerLimits::replayed_bytes};
  for (size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    ServerLimits more;
    more.*all[i] += 1000;
    CHECK(server_bytes(more) >= server_bytes({}) + 1000);
  }
  // A single body may be larger than what all of them may have.
  ServerLimits large;
  large.body_bytes = 2 * large.all_body_bytes;
  CHECK(server_bytes(large) > server_bytes({}));
}

TEST_CASE("server memory: a connection counts with all that it can hold") {
  ServerLimits more;
  more.connections += 1;
  const uint64_t one = server_bytes(more) - server_bytes({});
  // Bytes that were sent ahead, and the request's own headers.
  CHECK(one >= 2 * more.header_bytes + 100 * sizeof(Headers::value_type));
}

TEST_CASE("server memory: what waits for clients counts with their shares") {
  ServerLimits more;
  more.all_unsent_bytes += 1000;
  CHECK(server_bytes(more) == server_bytes({}) + 1500);
}

TEST_CASE("server memory: a large budget leaves limits as they are") {
  const ServerLimits limits = scaled_limits({}, 16 * server_bytes({}) + 16);
  CHECK(server_bytes(limits) == server_bytes({}));
  CHECK(limits.body_bytes == ServerLimits{}.body_bytes);
}

TEST_CASE("server memory: it is a sixteenth of a budget at most") {
  const ServerLimits limits = scaled_limits({}, 1'000'000'000);
  CHECK(server_bytes(limits) <= 1'000'000'000 / 16);
  CHECK(server_bytes(limits) > 1'000'000'000 / 25); // and makes use of it
  CHECK(limits.all_body_bytes < ServerLimits{}.all_body_bytes);
  CHECK(limits.messages == ServerLimits{}.messages);
}

TEST_CASE("server memory: no budget is so small that nothing can be asked") {
  for (const uint64_t budget : {uint64_t{0}, uint64_t{24'000'000}}) {
    const ServerLimits limits = scaled_limits({}, budget);
    CHECK(limits.body_bytes == 1u << 20);
    CHECK(limits.all_body_bytes == 1u << 20);
    CHECK(limits.json_values >= 4096);
    CHECK(limits.connections >= 64);
    CHECK(server_bytes(limits) < 8'800'000);
  }
}

TEST_CASE("server memory: what is small already stays") {
  ServerLimits limits;
  limits.stored_response_bytes = 0;
  limits.body_bytes = 5000;
  limits = scaled_limits(limits, 1'000'000);
  CHECK(limits.stored_response_bytes == 0);
  CHECK(limits.body_bytes == 5000);
}
