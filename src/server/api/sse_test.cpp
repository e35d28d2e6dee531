#include "server/api/sse.h"

#include <doctest/doctest.h>

#include "server/api/test_exchange.h"

using namespace mlx_flash::server;

TEST_CASE("sse: an event ends with an empty line") {
  CHECK(sse_data("{}") == "data: {}\n\n");
  CHECK(sse_event("ping", "{}") == "event: ping\ndata: {}\n\n");
  CHECK(sse_comment("waiting") == ": waiting\n\n");
  CHECK(sse_comment("") == ":\n\n");
}

TEST_CASE("sse: no line end in its data can end an event") {
  CHECK(sse_data("a\nb") == "data: a\ndata: b\n\n");
  CHECK(sse_data("a\r\nb\rc") == "data: a\ndata: b\ndata: c\n\n");
  CHECK(sse_data("a\n\nevent: b") == "data: a\ndata: \ndata: event: b\n\n");
  const auto events = read_events(sse_data("a\n\nb") + sse_event("x", "c"));
  REQUIRE(events.size() == 2);
  CHECK(events[0].data == "a\n\nb");
  CHECK(events[1].name == "x");
  CHECK(events[1].data == "c");
}

TEST_CASE("sse: nobody on the way may keep a stream, or keep it back") {
  TestExchange exchange;
  exchange.begin(sse_response("data: 1\n\n"));
  CHECK(exchange.head.status == 200);
  CHECK(exchange.head.content_type == "text/event-stream");
  CHECK(exchange.header("cache-control") == "no-cache");
  CHECK(exchange.header("x-accel-buffering") == "no");
  CHECK(exchange.written == "data: 1\n\n");
}
