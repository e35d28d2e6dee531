// From a request to the route that answers it: may it be asked at all, is
// there such a route, on which thread does it run. What routes do is in api/,
// and sockets are in http/.
//
// Thread rule: the loop. Routes that are slow run on a worker.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/access.h"
#include "server/api/routes.h"
#include "server/http/http_server.h"
#include "server/route_table.h"
#include "server/routed_exchange.h"

namespace mlx_flash::server {

class Router {
 public:
  // Keeps references to both.
  Router(std::vector<Route> routes, const Access& access, ApiContext& context);

  // Refers to this object.
  HttpService service();

  void handle(std::shared_ptr<HttpExchange> exchange);
  // What handle() would answer without a look at the body, if that is known.
  std::optional<HttpResponse> refuse_early(const HttpRequest& request);
  // For what is no good request.
  HttpResponse
  explain(const HttpRequest& request, int status, const std::string& message);

 private:
  struct Decision {
    RouteFacts facts;
    std::optional<HttpResponse> answer{}; // without a route
    const Route* route = nullptr;
    std::string argument;
  };

  Decision decide(const HttpRequest& request) const;
  void check(const HttpRequest& request, const std::string& pattern) const;
  const Route* choose(
      const HttpRequest& request,
      const RouteTable::Match& match,
      Decision& decision) const;
  [[noreturn]] void not_found(const HttpRequest& request) const;
  void call(
      const Route& route,
      const std::shared_ptr<HttpExchange>& exchange,
      const std::string& argument) const;
  RouteFacts facts_of(
      const HttpRequest& request,
      const RouteTable::Match& match) const;

  const RouteTable table_;
  const Access& access_;
  ApiContext& context_;
};

} // namespace mlx_flash::server
