#include "server/route_table.h"

#include <doctest/doctest.h>

using namespace mlx_flash::server;

namespace {

Route route(const char* method, const char* path) {
  Route made;
  made.method = method;
  made.path = path;
  return made;
}

RouteTable table() {
  return RouteTable(
      {route("GET", "/v1/models/{model...}"),
       route("POST", "/v1/models/switch"),
       route("GET", "/v1/models"),
       route("GET", "/v1/responses/{id}"),
       route("DELETE", "/v1/responses/{id}"),
       route("GET", "/v1/responses/{id}/items"),
       route("POST", "/api/chat"),
       route("GET", "/")});
}

std::string pattern_of(const RouteTable& table, const char* path) {
  const RouteTable::Match match = table.find(path);
  return match.group ? match.group->pattern : "none";
}

} // namespace

TEST_CASE("route table: a path is found by its pattern") {
  const RouteTable routes = table();
  CHECK(pattern_of(routes, "/") == "/");
  CHECK(pattern_of(routes, "/v1/models") == "/v1/models");
  CHECK(pattern_of(routes, "/api/chat") == "/api/chat");
  for (const char* path :
       {"",
        "/v1",
        "/v1/modelsx",
        "/v1/models/",
        "/api/chat/",
        "//",
        "/v1//models"}) {
    CAPTURE(path);
    CHECK(pattern_of(routes, path) == "none");
  }
}

TEST_CASE("route table: one part of a path, or all of its rest, is given") {
  const RouteTable routes = table();
  const auto one = routes.find("/v1/responses/resp_1");
  CHECK(one.group->pattern == "/v1/responses/{id}");
  CHECK(one.argument == "resp_1");
  const auto middle = routes.find("/v1/responses/resp_1/items");
  CHECK(middle.group->pattern == "/v1/responses/{id}/items");
  CHECK(middle.argument == "resp_1");
  const auto rest = routes.find("/v1/models/org/name/x");
  CHECK(rest.group->pattern == "/v1/models/{model...}");
  CHECK(rest.argument == "org/name/x");
  CHECK(pattern_of(routes, "/v1/responses/a/b") == "none");
  CHECK(routes.find("/v1/responses/a/b").argument.empty());
}

TEST_CASE("route table: a path that is written out comes before a pattern") {
  CHECK(pattern_of(table(), "/v1/models/switch") == "/v1/models/switch");
}

TEST_CASE("route table: the methods of a path are known") {
  const RouteTable routes = table();
  const auto* group = routes.find("/v1/responses/a").group;
  CHECK(group->methods == "GET, HEAD, DELETE, OPTIONS");
  CHECK(group->find("GET")->method == "GET");
  CHECK(group->find("HEAD")->method == "GET");
  CHECK(group->find("DELETE")->method == "DELETE");
  CHECK(!group->find("POST"));
  CHECK(!routes.find("/api/chat").group->find("HEAD"));
}

TEST_CASE("route table: a wrong base URL is recognised") {
  const RouteTable routes = table();
  CHECK(routes.suggest("/models") == "/v1/models");
  CHECK(routes.suggest("/v1/v1/models") == "/v1/models");
  CHECK(routes.suggest("/v1/api/chat") == "/api/chat");
  CHECK(routes.suggest("/chat") == "/api/chat");
  CHECK(routes.suggest("/v1/models/") == "/v1/models");
  CHECK(routes.suggest("/nothing").empty());
  CHECK(routes.suggest("/").empty());
}
