#include "server/http/uri.h"

#include <doctest/doctest.h>

#include "server/api_error.h"

using namespace mlx_flash::server;

namespace {

std::string host_of(std::string_view text) {
  const auto authority = parse_authority(text);
  return authority ? authority->host : "none";
}

} // namespace

TEST_CASE("uri: a host is a name or an address, with a port or without") {
  CHECK(host_of("localhost") == "localhost");
  CHECK(host_of("Example.ORG:8080") == "example.org");
  CHECK(parse_authority("example.org:8080")->port == 8080);
  CHECK(!parse_authority("example.org")->port);
  CHECK(!parse_authority("example.org:")->port);
  CHECK(host_of("example.org.") == "example.org");
  CHECK(host_of("[::1]:80") == "::1");
  CHECK(host_of("[0:0:0:0:0:0:0:1]") == "::1");
}

TEST_CASE("uri: what is no host is refused") {
  for (const char* text :
       {"",
        ":80",
        "a b",
        "a/b",
        "user@host",
        "host:port",
        "host:65536",
        "host:-1",
        "host:1x",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "::1",
        "ho\xc3\xa4st",
        "a,b",
        "%41"}) {
    CAPTURE(text);
    CHECK(!parse_authority(text));
  }
  CHECK(!parse_authority(std::string(256, 'a')));
}

TEST_CASE("uri: loopback is localhost, 127.0.0.0/8 and ::1") {
  for (const char* host : {"localhost", "127.0.0.1", "127.1.2.3", "::1"}) {
    CHECK(is_loopback(host));
  }
  for (const char* host :
       {"127.0.0.1.evil.org", "127.evil", "0.0.0.0", "10.0.0.1", "::"}) {
    CHECK(!is_loopback(host));
  }
}

TEST_CASE("uri: an origin is a scheme, a host and perhaps a port") {
  CHECK(parse_origin("https://a.org")->authority.host == "a.org");
  CHECK(parse_origin("http://a.org:81")->authority.port == 81);
  CHECK(!parse_origin("http://a.org:80")->authority.port);
  CHECK(!parse_origin("HTTPS://a.org:443")->authority.port);
  for (const char* text :
       {"null", "", "a.org", "://a.org", "https://", "https://a.org/"}) {
    CHECK(!parse_origin(text));
  }
}

TEST_CASE("uri: a target's path is decoded and its query is not") {
  const Target target = parse_target("/v1/models/a%2Fb%20c?x=%41&y");
  CHECK(target.path == "/v1/models/a/b c");
  CHECK(target.query == "x=%41&y");
  CHECK(target.authority.empty());
}

TEST_CASE("uri: a target may be absolute") {
  const Target target = parse_target("HTTP://Example.org:81/a?b");
  CHECK(target.path == "/a");
  CHECK(target.query == "b");
  CHECK(target.authority == "Example.org:81");
  CHECK(parse_target("http://example.org").path == "/");
  CHECK(parse_target("http://example.org?q").query == "q");
}

TEST_CASE("uri: a malformed target is refused") {
  for (const char* text :
       {"v1/models",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7f",
        "/a#b",
        "ftp://host/a",
        "http:///a",
        "http://user@host/a",
        "host:80",
        "//host/a%0"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_target(text), ApiError);
  }
}
