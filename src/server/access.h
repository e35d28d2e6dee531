// Who may ask: the server's key, and which hosts and web pages requests may
// name. A page of another site that a user looks at must not reach a server on
// the same machine, neither by its address nor by a name that is made to lead
// to it (DNS rebinding). What is asked for is not its concern (router.h).
//
// Thread rule: const after construction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/http.h"
#include "server/http/uri.h"
#include "server/server_options.h"

namespace mlx_flash::server {

class Access {
 public:
  // Throws Error(invalid_argument) for an address that others can reach
  // without a key, and for hosts and origins that are none.
  explicit Access(const ServerOptions& options);

  // Where to listen, as HttpServer::listen() takes it.
  const std::string& host() const {
    return bound_;
  }

  // Throws ApiError(forbidden) for what its host, its origin or a browser says
  // about it.
  void check_source(const HttpRequest& request) const;
  // Throws ApiError(unauthorized) without the key, if there is one.
  void check_key(const HttpRequest& request) const;

  // For the answers to pages of other origins that are allowed; empty else.
  Headers cors_headers(const HttpRequest& request) const;
  // A browser asks whether a page of an allowed origin may send a request.
  bool is_preflight(const HttpRequest& request) const;
  // What it is told; `methods` are those of the route.
  Headers preflight_headers(
      const HttpRequest& request,
      const std::string& methods) const;

 private:
  bool host_allowed(std::string_view host) const;
  bool origin_allowed(std::string_view origin) const;
  void check_origin(const HttpRequest& request, std::string_view origin) const;

  const std::string key_;
  const std::string bound_; // without brackets
  bool any_address_ = false; // it listens at all that the machine has
  std::vector<Authority> hosts_;
  std::vector<std::string> origins_; // lower case
};

// In a time that depends on the length of `given` alone.
bool equal_in_constant_time(std::string_view given, std::string_view secret);

} // namespace mlx_flash::server
