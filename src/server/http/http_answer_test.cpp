#include "server/http/http_answer.h"

#include <doctest/doctest.h>

#include <utility>

#include "server/test_loop.h"

using namespace mlx_flash::server;

namespace {

constexpr uint64_t kMostUnsent = 1000;

std::shared_ptr<UnsentBytes> some_unsent() {
  ServerLimits limits;
  limits.unsent_bytes = kMostUnsent;
  limits.all_unsent_bytes = 8 * kMostUnsent;
  limits.connections = 8; // a share of 500 for each
  return std::make_shared<UnsentBytes>(limits);
}

struct Fixture {
  explicit Fixture(
      HttpAnswer::Form form = {},
      std::shared_ptr<UnsentBytes> all = some_unsent())
      : unsent(std::move(all)),
        answer(std::make_shared<HttpAnswer>(loop, form, unsent, [this] {
          ++told;
        })) {}

  // Head and body of what is there to send.
  std::pair<std::string, std::string> take() {
    const std::string text = answer->take();
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) {
      return {"", text};
    }
    return {text.substr(0, end + 2), text.substr(end + 4)};
  }

  ManualLoop loop;
  int told = 0;
  std::shared_ptr<UnsentBytes> unsent;
  std::shared_ptr<HttpAnswer> answer;
};

HttpResponse text(std::string body, int status = 200) {
  return {status, "text/plain", {}, std::move(body)};
}

bool has(const std::string& head, const std::string& line) {
  return head.find("\r\n" + line + "\r\n") != std::string::npos;
}

} // namespace

TEST_CASE("http answer: a whole one has its length") {
  Fixture f;
  f.answer->send(text("hello"));
  CHECK(!f.answer->complete());
  const auto [head, body] = f.take();
  CHECK(head.starts_with("HTTP/1.1 200 OK\r\ndate: "));
  CHECK(has(head, "content-length: 5"));
  CHECK(has(head, "content-type: text/plain"));
  CHECK(head.find("connection") == std::string::npos);
  CHECK(body == "hello");
  CHECK(f.answer->complete());
  CHECK(f.answer->keep_alive());
}

TEST_CASE("http answer: a stream is chunked, part by part") {
  Fixture f;
  f.answer->begin(text("one"));
  const auto [head, first] = f.take();
  CHECK(has(head, "transfer-encoding: chunked"));
  CHECK(first == "3\r\none\r\n");
  f.answer->write("seventeen letters");
  f.answer->write("");
  CHECK(f.take().second == "11\r\nseventeen letters\r\n");
  CHECK(!f.answer->complete());
  f.answer->end();
  CHECK(f.answer->take() == "0\r\n\r\n");
  CHECK(f.answer->complete());
  CHECK(f.answer->keep_alive());
}

TEST_CASE("http answer: a stream of HTTP/1.0 ends with its connection") {
  Fixture f({.http_1_1 = false, .keep_alive = true});
  f.answer->begin(text("one"));
  f.answer->write("two");
  f.answer->end();
  const auto [head, body] = f.take();
  CHECK(head.starts_with("HTTP/1.0 200 OK"));
  CHECK(head.find("transfer-encoding") == std::string::npos);
  CHECK(head.find("keep-alive") == std::string::npos);
  CHECK(body == "onetwo");
  CHECK(!f.answer->keep_alive());
}

TEST_CASE("http answer: HTTP/1.0 keeps a connection only with a length") {
  Fixture f({.http_1_1 = false, .keep_alive = true});
  f.answer->send(text("one"));
  CHECK(has(f.take().first, "connection: keep-alive"));
  CHECK(f.answer->keep_alive());
}

TEST_CASE("http answer: to a HEAD has the head of the GET, and no body") {
  Fixture whole({.head_only = true});
  whole.answer->send(text("hello"));
  const auto [head, body] = whole.take();
  CHECK(has(head, "content-length: 5"));
  CHECK(body.empty());
  Fixture stream({.head_only = true});
  stream.answer->begin(text("one"));
  stream.answer->write("two");
  stream.answer->end();
  CHECK(stream.take().second.empty());
  CHECK(stream.answer->complete());
}

TEST_CASE("http answer: a 204 has neither body nor length") {
  Fixture f;
  f.answer->send(text("", 204));
  const auto [head, body] = f.take();
  CHECK(head.find("content-length") == std::string::npos);
  CHECK(head.find("content-type") == std::string::npos);
}

TEST_CASE("http answer: what would end a header is left out of it") {
  Fixture f;
  HttpResponse response = text("");
  response.headers = {{"x-a", "1\r\nx-b: 2"}, {"x-c\n", "3"}};
  f.answer->send(response);
  const std::string head = f.take().first;
  CHECK(has(head, "x-a: 1x-b: 2"));
  CHECK(has(head, "x-c: 3"));
}

TEST_CASE("http answer: the connection is told once until it takes") {
  Fixture f;
  f.answer->begin(text(""));
  f.answer->write("one");
  f.answer->write("two");
  f.loop.run();
  CHECK(f.told == 1);
  f.answer->take();
  f.answer->write("three");
  f.loop.run();
  CHECK(f.told == 2);
}

TEST_CASE("http answer: abandoned without a word it is a 500") {
  Fixture f;
  f.answer->abandon();
  CHECK(f.take().first.starts_with("HTTP/1.1 500 "));
  CHECK(f.answer->complete());
}

TEST_CASE("http answer: a stream that is abandoned has no good end") {
  Fixture f;
  f.answer->begin(text("one"));
  f.answer->abandon();
  const auto [head, body] = f.take();
  CHECK(body == "3\r\none\r\n");
  CHECK(f.answer->complete());
  CHECK(!f.answer->keep_alive());
}

TEST_CASE("http answer: after the end nothing more is taken") {
  Fixture f;
  f.answer->send(text("one"));
  f.take();
  f.answer->send(text("two"));
  f.answer->begin(text("two"));
  f.answer->write("two");
  f.answer->end();
  f.answer->abandon();
  CHECK(f.answer->take().empty());
}

TEST_CASE("http answer: too much that waits is thrown away, with the client") {
  Fixture f;
  f.answer->begin(text(std::string(kMostUnsent, 'a')));
  f.answer->take();
  CHECK(!f.answer->overflowed());
  SUBCASE("what was taken and not sent counts") {
    f.answer->write("b");
    CHECK(f.answer->overflowed());
    CHECK(f.answer->take().empty());
  }
  SUBCASE("what was sent does not") {
    f.answer->sent(2000);
    f.answer->write("b");
    CHECK(!f.answer->overflowed());
  }
}

TEST_CASE("http answer: a whole answer is as large as all that may wait") {
  const HttpResponse most = text(std::string(8 * kMostUnsent, 'a'));
  HttpResponse more = text(std::string(8 * kMostUnsent + 1, 'a'));
  Fixture f;
  CHECK(f.answer->has_room(most));
  CHECK(!f.answer->has_room(more));
  SUBCASE("and no larger") {
    f.answer->send(more);
    CHECK(f.answer->overflowed());
  }
  SUBCASE("and no larger in one part") {
    f.answer->begin(more);
    CHECK(f.answer->overflowed());
  }
  SUBCASE("and no larger in a later part") {
    f.answer->begin(text(""));
    f.answer->write(more.body);
    CHECK(f.answer->overflowed());
  }
  SUBCASE("or of any size, where it has a budget") {
    more.any_size = true;
    CHECK(f.answer->has_room(more));
    f.answer->send(more);
    CHECK(f.take().second.size() == more.body.size());
    CHECK(f.unsent->all() > more.body.size()); // it counts nevertheless
  }
  SUBCASE("and all together no more") {
    f.answer->send(text(std::string(3 * kMostUnsent, 'a')));
    Fixture other({}, f.unsent);
    CHECK(!other.answer->has_room(text(std::string(5 * kMostUnsent, 'a'))));
    CHECK(other.answer->has_room(text(std::string(4 * kMostUnsent, 'a'))));
  }
}

TEST_CASE("http answer: who is not behind may have a large part of a stream") {
  const auto unsent = some_unsent();
  unsent->change(0, 5 * kMostUnsent); // more than half
  Fixture f({}, unsent);
  f.answer->begin(text(std::string(2 * kMostUnsent, 'a')));
  CHECK(!f.answer->overflowed());
  SUBCASE("and then is behind") {
    f.answer->write("b");
    CHECK(f.answer->overflowed());
  }
  SUBCASE("unless it reads") {
    f.answer->sent(f.answer->take().size());
    f.answer->write(std::string(2 * kMostUnsent, 'b'));
    CHECK(!f.answer->overflowed());
  }
}

TEST_CASE("http answer: what waits is counted until it is sent or gone") {
  Fixture f;
  f.answer->begin(text("one"));
  f.answer->write("two");
  const uint64_t waiting = f.unsent->all();
  CHECK(waiting > 6);
  CHECK(f.answer->take().size() == waiting);
  CHECK(f.unsent->all() == waiting);
  f.answer->sent(waiting - 1);
  CHECK(f.unsent->all() == 1);
  f.answer->write("three");
  CHECK(f.unsent->all() > 1);
  SUBCASE("because its client goes") {
    f.answer->disconnect();
  }
  SUBCASE("because it goes itself") {
    f.answer.reset();
  }
  CHECK(f.unsent->all() == 0);
}

TEST_CASE("http answer: of what all have waiting each has its share") {
  const auto unsent = some_unsent();
  unsent->change(0, 8 * kMostUnsent); // others do not read
  Fixture f({}, unsent);
  f.answer->begin(text(std::string(200, 'a')));
  f.answer->write("b");
  CHECK(!f.answer->overflowed());
  SUBCASE("and a stream no more") {
    f.answer->write(std::string(500, 'c'));
    f.answer->write("d");
    CHECK(f.answer->overflowed());
  }
  SUBCASE("unless there is room again") {
    unsent->change(8 * kMostUnsent, 0);
    f.answer->write(std::string(500, 'c'));
    f.answer->write("d");
    CHECK(!f.answer->overflowed());
    f.unsent->change(0, 8 * kMostUnsent);
  }
  SUBCASE("and a whole answer no more") {
    Fixture small({}, unsent);
    small.answer->send(text(std::string(500, 'a')));
    CHECK(!small.answer->overflowed());
    CHECK(small.answer->has_room(text(std::string(500, 'a'))));
    CHECK(!small.answer->has_room(text(std::string(501, 'a'))));
    Fixture large({}, unsent);
    large.answer->send(text(std::string(501, 'a')));
    CHECK(large.answer->overflowed());
    CHECK(large.answer->take().empty());
  }
}

TEST_CASE("http answer: a disconnect is told once, on the loop") {
  Fixture f;
  int told = 0;
  f.answer->on_disconnect([&] { ++told; });
  f.answer->disconnect();
  f.answer->disconnect();
  CHECK(told == 0);
  f.loop.run();
  CHECK(told == 1);
  SUBCASE("and to those who come later at once") {
    f.answer->on_disconnect([&] { ++told; });
    f.loop.run();
    CHECK(told == 2);
  }
}

TEST_CASE("http answer: after its end a disconnect is told to nobody") {
  Fixture f;
  int told = 0;
  f.answer->on_disconnect([&] { ++told; });
  f.answer->send(text("one"));
  f.answer->on_disconnect([&] { ++told; });
  f.answer->disconnect();
  f.loop.run();
  CHECK(told == 0);
}

TEST_CASE("http answer: callbacks do not keep alive who has ended") {
  Fixture f;
  const auto held = std::make_shared<int>(1);
  f.answer->on_disconnect([held] {});
  CHECK(held.use_count() == 2);
  SUBCASE("whole") {
    f.answer->send(text("one"));
  }
  SUBCASE("as a stream") {
    f.answer->begin(text("one"));
    CHECK(held.use_count() == 2);
    f.answer->end();
  }
  SUBCASE("without an end") {
    f.answer->abandon();
  }
  SUBCASE("with its client") {
    f.answer->disconnect();
    f.loop.run();
  }
  CHECK(held.use_count() == 1);
}

TEST_CASE("http answer: what is gathered counts as what waits") {
  ManualLoop loop;
  ServerLimits limits;
  limits.connections = 10;
  limits.all_unsent_bytes = 2000; // 100 for each, 1000 for whoever needs it
  const auto unsent = std::make_shared<UnsentBytes>(limits);
  const auto make = [&] {
    return std::make_shared<HttpAnswer>(
        loop, HttpAnswer::Form{}, unsent, [] {});
  };
  const auto first = make();
  const auto second = make();
  CHECK(first->hold(900));
  CHECK(first->hold(1800)); // in place of that
  CHECK(unsent->all() == 1800);
  CHECK(!second->hold(101));
  CHECK(second->hold(100)); // its share
  CHECK(!first->hold(2001));
  CHECK(first->hold(1700)); // less is never refused
  CHECK(unsent->all() == 1800);
  // As it takes the place of what was gathered.
  CHECK(first->has_room(text(std::string(1900, 'x'))));
  CHECK(!first->has_room(text(std::string(1901, 'x'))));
  CHECK(!second->has_room(text(std::string(101, 'x'))));
  SUBCASE("until it is sent") {
    HttpResponse response;
    response.body = std::string(1500, 'x');
    first->send(response);
    CHECK(!first->overflowed());
    first->sent(first->take().size());
  }
  SUBCASE("until the client is gone") {
    first->disconnect();
    CHECK(first->hold(1u << 30)); // to nobody
  }
  CHECK(unsent->all() == 100);
}

TEST_CASE("http exchange: a body that was read takes no memory any more") {
  ManualLoop loop;
  HttpRequest request;
  request.id = "req_1";
  request.body = std::string(100000, 'x');
  Exchange exchange(
      std::make_shared<HttpAnswer>(
          loop,
          HttpAnswer::Form{},
          std::make_shared<UnsentBytes>(ServerLimits{}),
          [] {}),
      std::move(request),
      nullptr);
  exchange.forget_body();
  CHECK(exchange.request().body.capacity() < 100);
  CHECK(exchange.request().id == "req_1");
}
