#include "server/api/own_routes.h"

#include <nlohmann/json.hpp>

#include "server/fields.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

HttpResponse json_response(const Json& body) {
  HttpResponse response;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

Json read_own_body(const ApiContext& context, const HttpExchange& exchange) {
  const std::string& body = exchange.request().body;
  return body.empty() ? Json::object()
                      : parse_body(body, json_limits(context.options.limits));
}

std::vector<Route> own_routes() {
  std::vector<Route> routes = own_status_routes();
  for (auto part : {own_text_routes, own_control_routes}) {
    for (Route& route : part()) {
      routes.push_back(std::move(route));
    }
  }
  return routes;
}

} // namespace mlx_flash::server
