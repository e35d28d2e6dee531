#include "server/http/request_reader.h"

#include <doctest/doctest.h>

#include <vector>

using namespace mlx_flash::server;

namespace {

using State = RequestReader::State;

constexpr uint64_t kHeaderBytes = 1000;
constexpr uint64_t kBodyBytes = 100;

struct Read {
  State state = State::headers;
  ReadFailure failure;
  HttpRequest request;
  std::string rest;
  bool keep_alive = false;
  bool expects_continue = false;
};

// `step` bytes at a time.
Read read(const std::string& bytes, size_t step = SIZE_MAX) {
  RequestReader reader(kHeaderBytes, kBodyBytes);
  Read result;
  for (size_t i = 0; i < bytes.size() && result.state != State::failed;) {
    const std::string part = bytes.substr(i, step);
    i += part.size();
    result.rest += part;
    if (result.state != State::done) {
      result.state = reader.read(result.rest);
    }
  }
  result.failure = reader.failure();
  result.request = reader.request();
  if (result.state == State::body || result.state == State::done) {
    result.keep_alive = reader.keep_alive();
    result.expects_continue = reader.expects_continue();
  }
  return result;
}

std::string head(const std::string& headers, const std::string& line = {}) {
  return (line.empty() ? "POST /a HTTP/1.1" : line) + "\r\nHost: a\r\n" +
      headers + "\r\n";
}

int status_of(const std::string& bytes) {
  const Read result = read(bytes);
  return result.state == State::failed ? result.failure.status : 0;
}

} // namespace

TEST_CASE("request reader: a request has method, path, headers and body") {
  const Read result =
      read(head("X-Word:  some text \r\nContent-Length: 5\r\n") + "helloGET");
  REQUIRE(result.state == State::done);
  CHECK(result.request.method == "POST");
  CHECK(result.request.path == "/a");
  CHECK(result.request.header("x-word") == "some text");
  CHECK(result.request.body == "hello");
  CHECK(result.rest == "GET");
  CHECK(result.keep_alive);
}

TEST_CASE("request reader: a request is the same however its bytes are cut") {
  const std::vector<std::string> all = {
      head("Content-Length: 5\r\n") + "hello",
      head("Transfer-Encoding: chunked\r\n") +
          "5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n",
      head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
      "\r\n\r\n" + head(""),
      head("Content-Length: x\r\n"),
      head("Transfer-Encoding: chunked\r\n") + "x\r\n",
  };
  for (const std::string& bytes : all) {
    CAPTURE(bytes);
    const Read whole = read(bytes);
    for (size_t step = 1; step < 8; ++step) {
      const Read parts = read(bytes, step);
      CHECK(parts.state == whole.state);
      CHECK(parts.failure.status == whole.failure.status);
      CHECK(parts.request.body == whole.request.body);
      CHECK(parts.request.headers == whole.request.headers);
    }
  }
}

TEST_CASE("request reader: a chunked body is put together, without trailers") {
  const Read result = read(
      head("Transfer-Encoding: Chunked\r\n") +
      "5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nX-Late: 1\r\n\r\nrest");
  REQUIRE(result.state == State::done);
  CHECK(result.request.body == "hello world");
  CHECK(result.request.header("x-late").empty());
  CHECK(result.rest == "rest");
}

TEST_CASE("request reader: headers above the limit are a 431") {
  const std::string line(kHeaderBytes, 'a');
  CHECK(status_of(head("X: " + line + "\r\n")) == 431);
  CHECK(status_of("GET /" + line) == 431);
  // What was read before counts too.
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
  while (bytes.size() < kHeaderBytes) {
    bytes += "A: b\r\n";
  }
  CHECK(read(bytes, 10).failure.status == 431);
}

TEST_CASE("request reader: there are at most a hundred headers") {
  std::string headers; // beside the Host
  for (size_t i = 1; i < kMostHeaders; ++i) {
    headers += "A:b\r\n";
  }
  CHECK(read(head(headers)).request.headers.size() == kMostHeaders);
  CHECK(status_of(head(headers)) == 0);
  CHECK(status_of(head(headers + "A:b\r\n")) == 431);
}

TEST_CASE("request reader: headers take no more memory than is counted") {
  RequestReader reader(kHeaderBytes, kBodyBytes);
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 64; ++i) {
    bytes += "A: b\r\n";
  }
  bytes += "X: " + std::string(500, 'x') + "\r\n\r\n";
  REQUIRE(reader.read(bytes) == State::done);
  const Headers& headers = reader.request().headers;
  CHECK(headers.capacity() == headers.size());
  CHECK(headers.back().second.capacity() <= 500 + 32);
}

TEST_CASE("request reader: a body above the limit is a 413 before it is read") {
  CHECK(status_of(head("Content-Length: 100\r\n")) == 0);
  CHECK(status_of(head("Content-Length: 101\r\n")) == 413);
  CHECK(status_of(head("Content-Length: 18446744073709551615\r\n")) == 413);
  const std::string chunked = head("Transfer-Encoding: chunked\r\n");
  CHECK(status_of(chunked + "65\r\na") == 413);
  CHECK(
      status_of(chunked + "60\r\n" + std::string(96, 'a') + "\r\n5\r\n") ==
      413);
  CHECK(status_of(chunked + "ffffffffffffffff\r\n") == 413);
}

TEST_CASE("request reader: lines between chunks and trailers are bounded") {
  const std::string chunked = head("Transfer-Encoding: chunked\r\n");
  CHECK(status_of(chunked + "5;" + std::string(kHeaderBytes, 'a')) == 431);
  CHECK(
      status_of(chunked + "0\r\nA: " + std::string(kHeaderBytes, 'a')) == 431);
}

TEST_CASE("request reader: what has two readings of a body's end is refused") {
  const std::string length = "Content-Length: 5\r\n";
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  CHECK(status_of(head(length + chunked)) == 400);
  CHECK(status_of(head(chunked + length)) == 400);
  CHECK(status_of(head("Transfer-Encoding: gzip\r\n" + length)) == 400);
  CHECK(status_of(head(length + "Content-Length: 6\r\n")) == 400);
  CHECK(status_of(head("Content-Length: 5, 6\r\n")) == 400);
  CHECK(status_of(head("Content-Length: +5\r\n")) == 400);
  CHECK(status_of(head("Content-Length: -1\r\n")) == 400);
  CHECK(status_of(head("Content-Length: 0x5\r\n")) == 400);
  CHECK(status_of(head("Content-Length:\r\n")) == 400);
  CHECK(status_of(head("Content-Length : 5\r\n")) == 400);
  CHECK(status_of(head("Transfer-Encoding: gzip\r\n")) == 501);
  CHECK(status_of(head("Transfer-Encoding: gzip, chunked\r\n")) == 501);
  CHECK(status_of(head("Transfer-Encoding: identity\r\n")) == 501);
  CHECK(status_of(head(chunked + chunked)) == 400);
  CHECK(status_of(head(chunked, "POST /a HTTP/1.0")) == 400);
}

TEST_CASE("request reader: there is one Host, and it names a host") {
  CHECK(status_of("GET / HTTP/1.1\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost:\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: a b\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/1.0\r\n\r\n") == 0);
}

TEST_CASE("request reader: an absolute target's host counts, not the header") {
  const Read result =
      read("GET http://b.org:81/x HTTP/1.1\r\nHost: a.org\r\n\r\n");
  REQUIRE(result.state == State::done);
  CHECK(result.request.path == "/x");
  CHECK(result.request.header("host") == "b.org:81");
}

TEST_CASE("request reader: what is no HTTP/1 is a 400 at once") {
  for (const std::string& bytes : std::vector<std::string>{
           "\x16\x03\x01",
           "{\"a\": 1}",
           "GET / HTTP/1.1\nHost: a\n\n",
           "GET /\r\n\r\n",
           "GET  / HTTP/1.1\r\n\r\n",
           "GET / HTTP/2.0\r\n\r\n",
           "PRI * HTTP/2.0\r\n\r\n",
           "GET / HTTP/1.1 \r\n\r\n",
           "G\x01T / HTTP/1.1\r\n\r\n",
           head("", "CONNECT a:80 HTTP/1.1"),
           head("", "GET * HTTP/1.1"),
           head("", "GET /%00 HTTP/1.1"),
           head("", "GET /%g0 HTTP/1.1"),
           head("X\r\n"),
           head(": x\r\n"),
           head("X: a\rb\r\n"),
           head("X: \x01\r\n"),
           std::string("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 34),
           head("Connection: close, ,=\r\n")}) {
    CAPTURE(bytes);
    CHECK(status_of(bytes) == 400);
  }
}

TEST_CASE("request reader: https is told that it is none") {
  CHECK(
      read("\x16\x03\x01").failure.message ==
      "this server speaks http, not https");
}

TEST_CASE("request reader: of expectations, only 100-continue is known") {
  const std::string length = "Content-Length: 5\r\n";
  CHECK(read(head("Expect: 100-Continue\r\n" + length)).expects_continue);
  CHECK(!read(head(length)).expects_continue);
  CHECK(status_of(head("Expect: gold\r\n")) == 417);
  CHECK(!read(head("Expect: 100-continue\r\n" + length, "POST / HTTP/1.0"))
             .expects_continue);
}

TEST_CASE("request reader: a connection is kept as its version has it") {
  CHECK(read(head("")).keep_alive);
  CHECK(!read(head("Connection: close\r\n")).keep_alive);
  CHECK(!read(head("Connection: x, Close\r\n")).keep_alive);
  CHECK(!read(head("", "GET / HTTP/1.0")).keep_alive);
  CHECK(read(head("Connection: keep-alive\r\n", "GET / HTTP/1.0")).keep_alive);
}

TEST_CASE("request reader: a request that fails late is known in part") {
  const Read result = read(head("Content-Length: 101\r\n"));
  CHECK(result.request.path == "/a");
  CHECK(result.request.method == "POST");
}
