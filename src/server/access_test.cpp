#include "server/access.h"

#include <doctest/doctest.h>

#include "mlx_flash/error.h"
#include "server/api_error.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

constexpr const char* kKey = "sk-a long secret";

HttpRequest request(Headers headers, std::string method = "POST") {
  HttpRequest made;
  made.method = std::move(method);
  made.headers = std::move(headers);
  return made;
}

// 0: nothing is wrong with it.
int status_of(const Access& access, const HttpRequest& asked) {
  try {
    access.check_source(asked);
    access.check_key(asked);
  } catch (const ApiError& error) {
    return http_status(error.kind());
  }
  return 0;
}

int status_of_host(const Access& access, const std::string& host) {
  return status_of(access, request({{"host", host}}));
}

ServerOptions options_at(const std::string& host, const std::string& key = {}) {
  ServerOptions options;
  options.host = host;
  options.api_key = key;
  return options;
}

std::string error_of(const ServerOptions& options) {
  try {
    Access access(options);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

std::string value_of(const Headers& headers, const std::string& name) {
  for (const auto& [key, value] : headers) {
    if (key == name) {
      return value;
    }
  }
  return {};
}

} // namespace

TEST_CASE("access: an address that others reach needs a key") {
  for (const char* host :
       {"0.0.0.0", "::", "192.168.1.5", "example.org", "127.evil.org"}) {
    CAPTURE(host);
    CHECK(error_of(options_at(host)).find("--api-key") != std::string::npos);
    CHECK(error_of(options_at(host, kKey)).empty());
  }
  for (const char* host :
       {"127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"}) {
    CAPTURE(host);
    CHECK(error_of(options_at(host)).empty());
  }
}

TEST_CASE("access: options that are no host and no origin are refused") {
  CHECK(!error_of(options_at("a b")).empty());
  CHECK(!error_of(options_at("")).empty());
  CHECK(!error_of(options_at("127.0.0.1:80")).empty());
  ServerOptions options;
  options.allowed_hosts = {"http://a.org"};
  CHECK(error_of(options).find("http://a.org") != std::string::npos);
  options.allowed_hosts = {"*"};
  CHECK(!error_of(options).empty());
  options.allowed_hosts = {};
  for (const char* origin : {"*", "a.org", "null", "https://a.org/"}) {
    options.allowed_origins = {origin};
    CHECK(!error_of(options).empty());
  }
}

TEST_CASE("access: a name that is made to lead to loopback is refused") {
  const Access access(options_at("127.0.0.1"));
  for (const char* host :
       {"localhost",
        "localhost:1234",
        "LOCALHOST.",
        "127.0.0.1:80",
        "[::1]:80"}) {
    CAPTURE(host);
    CHECK(status_of_host(access, host) == 0);
  }
  for (const char* host :
       {"evil.org",
        "evil.org:8080",
        "localhost.evil.org",
        "127.0.0.1.evil.org",
        "192.168.1.5",
        "localhost:99999",
        "localhost, evil.org"}) {
    CAPTURE(host);
    CHECK(status_of_host(access, host) == 403);
  }
}

TEST_CASE("access: a server of all addresses may be named by any of them") {
  const Access access(options_at("0.0.0.0", "k"));
  const auto with_host = [&](const char* host) {
    return status_of(access, request({{"host", host}, {"x-api-key", "k"}}));
  };
  CHECK(with_host("192.168.1.5:8080") == 0);
  CHECK(with_host("[fe80::1]") == 0);
  CHECK(with_host("evil.org") == 403);
}

TEST_CASE("access: the bound address and allowed hosts may be named") {
  ServerOptions options = options_at("box.lan", "k");
  options.allowed_hosts = {"Chat.example.org", "b.org:8443", "fe80::2"};
  const Access access(options);
  const auto with_host = [&](const char* host) {
    return status_of(access, request({{"host", host}, {"x-api-key", "k"}}));
  };
  CHECK(with_host("box.lan:1") == 0);
  CHECK(with_host("chat.example.org") == 0);
  CHECK(with_host("chat.example.org:81") == 0);
  CHECK(with_host("b.org:8443") == 0);
  CHECK(with_host("[fe80::2]:80") == 0);
  CHECK(with_host("b.org") == 403);
  CHECK(with_host("example.org") == 403);
}

TEST_CASE("access: pages of other origins are refused, also of GETs") {
  const Access access(options_at("127.0.0.1"));
  const auto with_origin = [&](const char* origin, const char* method) {
    return status_of(
        access,
        request({{"host", "localhost:8080"}, {"origin", origin}}, method));
  };
  CHECK(with_origin("http://localhost:8080", "POST") == 0);
  for (const char* method : {"GET", "POST", "OPTIONS"}) {
    for (const char* origin :
         {"https://evil.org",
          "http://localhost",
          "http://localhost:3000",
          "http://127.0.0.1:8080",
          "http://localhost:8080.evil.org",
          "tauri://localhost:8080",
          "null",
          "garbage"}) {
      CAPTURE(origin);
      CHECK(with_origin(origin, method) == 403);
    }
  }
}

TEST_CASE("access: a usual port may be left out of host or origin") {
  const Access access(options_at("127.0.0.1"));
  const auto pair = [&](const char* host, const char* origin) {
    return status_of(access, request({{"host", host}, {"origin", origin}}));
  };
  CHECK(pair("localhost:80", "http://localhost") == 0);
  CHECK(pair("localhost", "http://localhost:80") == 0);
  CHECK(pair("localhost:443", "https://localhost") == 0);
  CHECK(pair("localhost:443", "http://localhost") == 403);
}

TEST_CASE("access: without an origin a browser says whose page it is") {
  const Access access(options_at("127.0.0.1"));
  const auto from = [&](const char* site, const char* method) {
    return status_of(
        access,
        request({{"host", "localhost"}, {"sec-fetch-site", site}}, method));
  };
  CHECK(from("cross-site", "POST") == 403);
  CHECK(from("same-site", "DELETE") == 403);
  CHECK(from("same-origin", "POST") == 0);
  CHECK(from("none", "POST") == 0);
  CHECK(from("cross-site", "GET") == 0);
}

TEST_CASE("access: the key is asked for in either header") {
  const Access access(options_at("127.0.0.1", kKey));
  const auto with = [&](const char* name, const std::string& value) {
    return status_of(access, request({{name, value}}));
  };
  const std::string key = kKey;
  CHECK(with("authorization", "Bearer " + key) == 0);
  CHECK(with("authorization", "bearer   " + key) == 0);
  CHECK(with("x-api-key", key) == 0);
  CHECK(with("x-other", key) == 401);
  CHECK(with("authorization", key) == 401);
  CHECK(with("authorization", "Basic " + key) == 401);
  CHECK(with("authorization", "Bearer") == 401);
  CHECK(with("authorization", "Bearer ") == 401);
  CHECK(with("x-api-key", "") == 401);
  CHECK(with("x-api-key", key + "x") == 401);
  CHECK(with("x-api-key", key + key) == 401);
  CHECK(with("x-api-key", key.substr(1)) == 401);
}

TEST_CASE("access: without a key none is asked for") {
  const Access access(options_at("127.0.0.1"));
  CHECK(status_of(access, request({})) == 0);
  CHECK(status_of(access, request({{"x-api-key", "any"}})) == 0);
}

TEST_CASE("access: texts are compared whole") {
  CHECK(equal_in_constant_time("abc", "abc"));
  CHECK(!equal_in_constant_time("abd", "abc"));
  CHECK(!equal_in_constant_time("ab", "abc"));
  CHECK(!equal_in_constant_time("abcabc", "abc"));
  CHECK(!equal_in_constant_time("", "abc"));
  CHECK(!equal_in_constant_time("abc", ""));
}

TEST_CASE("access: allowed origins get their headers, others none") {
  ServerOptions options;
  options.allowed_origins = {"https://Chat.example.org", "app://obsidian.md"};
  const Access access(options);
  const auto asked = [&](const char* origin) {
    return request({{"host", "localhost"}, {"origin", origin}}, "OPTIONS");
  };
  const HttpRequest good = asked("https://chat.example.org");
  CHECK(status_of(access, good) == 0);
  const Headers headers = access.cors_headers(good);
  CHECK(
      value_of(headers, "access-control-allow-origin") ==
      "https://chat.example.org");
  CHECK(value_of(headers, "vary") == "Origin");
  CHECK(value_of(headers, "access-control-allow-credentials").empty());
  CHECK(status_of(access, asked("app://obsidian.md")) == 0);
  const HttpRequest bad = asked("https://evil.org");
  CHECK(status_of(access, bad) == 403);
  CHECK(value_of(access.cors_headers(bad), "access-control-allow-origin")
            .empty());
  CHECK(value_of(access.cors_headers(bad), "vary") == "Origin");
  CHECK(Access(ServerOptions{}).cors_headers(good).empty());
}

TEST_CASE("access: a browser may ask before it sends") {
  ServerOptions options;
  options.allowed_origins = {"https://chat.example.org"};
  const Access access(options);
  HttpRequest asked = request(
      {{"host", "localhost"},
       {"origin", "https://chat.example.org"},
       {"access-control-request-method", "POST"},
       {"access-control-request-headers", "authorization, x-stainless-os"}},
      "OPTIONS");
  REQUIRE(access.is_preflight(asked));
  const Headers headers = access.preflight_headers(asked, "POST, OPTIONS");
  CHECK(value_of(headers, "access-control-allow-methods") == "POST, OPTIONS");
  CHECK(
      value_of(headers, "access-control-allow-headers") ==
      "authorization, x-stainless-os");
  asked.headers[3].second = "a\"b";
  CHECK(value_of(
            access.preflight_headers(asked, ""), "access-control-allow-headers")
            .empty());
  asked.headers[1].second = "https://evil.org";
  CHECK(!access.is_preflight(asked));
}
