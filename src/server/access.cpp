#include "server/access.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

constexpr size_t kMostShown = 100; // bytes of a client's text in an error

std::string shown(std::string_view text) {
  return std::string(text.substr(0, kMostShown));
}

[[noreturn]] void forbid(const std::string& message) {
  throw ApiError(ApiErrorKind::forbidden, message);
}

// The host of an option, which has no port: "::1" and "[::1]" are one.
std::string bare_host(const std::string& host) {
  if (is_address(host)) {
    const bool ipv6 = host.find(':') != std::string::npos;
    return ipv6 ? parse_authority("[" + host + "]")->host : host;
  }
  const auto authority = parse_authority(host);
  return authority && !authority->port ? authority->host : std::string();
}

bool only_tokens(std::string_view list) {
  return std::all_of(list.begin(), list.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c >= '0' && c <= '9') || c == '-' || c == '_' || c == ',' || c == ' ';
  });
}

// "Bearer abc" is "abc"; empty for another scheme.
std::string_view bearer(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (to_lower(header.substr(0, kScheme.size())) != kScheme) {
    return {};
  }
  header.remove_prefix(kScheme.size());
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

bool changes_nothing(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS";
}

} // namespace

bool equal_in_constant_time(std::string_view given, std::string_view secret) {
  volatile unsigned char difference = given.size() != secret.size();
  for (size_t i = 0; i < given.size() && !secret.empty(); ++i) {
    const auto byte =
        static_cast<unsigned char>(given[i] ^ secret[i % secret.size()]);
    difference = static_cast<unsigned char>(difference | byte);
  }
  return difference == 0;
}

Access::Access(const ServerOptions& options)
    : key_(options.api_key), bound_(bare_host(options.host)) {
  if (bound_.empty()) {
    mlx_flash::fail(
        ErrorCode::invalid_argument,
        "[server] the host '{}' is no address and no name; use --host "
        "127.0.0.1",
        options.host);
  }
  any_address_ = bound_ == "0.0.0.0" || bound_ == "::";
  if (key_.empty() && !is_loopback(bound_)) {
    mlx_flash::fail(
        ErrorCode::invalid_argument,
        "[server] others could use the server at '{}' without a key; set one "
        "with --api-key, or listen at 127.0.0.1",
        options.host);
  }
  for (const std::string& host : options.allowed_hosts) {
    const std::string bare = bare_host(host);
    const auto authority =
        bare.empty() ? parse_authority(host) : Authority{bare, {}};
    if (!authority) {
      mlx_flash::fail(
          ErrorCode::invalid_argument,
          "[server] the allowed host '{}' is no host; write it as in "
          "chat.example.org or chat.example.org:8080",
          host);
    }
    hosts_.push_back(*authority);
  }
  for (const std::string& origin : options.allowed_origins) {
    if (!parse_origin(origin)) {
      mlx_flash::fail(
          ErrorCode::invalid_argument,
          "[server] the allowed origin '{}' is no origin; write it as in "
          "https://chat.example.org, without anything behind it",
          origin);
    }
    origins_.push_back(to_lower(origin));
  }
}

bool Access::host_allowed(std::string_view host) const {
  // HTTP/1.0 knows no Host; browsers always send it.
  if (host.empty()) {
    return true;
  }
  const auto asked = parse_authority(host);
  if (!asked) {
    return false;
  }
  // Ports are not compared: a tunnel or a container may give it another one.
  if (is_loopback(asked->host) || asked->host == bound_ ||
      (any_address_ && is_address(asked->host))) {
    return true;
  }
  return std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& allowed) {
    return allowed.host == asked->host &&
        (!allowed.port || allowed.port == asked->port);
  });
}

bool Access::origin_allowed(std::string_view origin) const {
  return std::find(origins_.begin(), origins_.end(), to_lower(origin)) !=
      origins_.end();
}

void Access::check_source(const HttpRequest& request) const {
  const std::string_view host = request.header("host");
  if (!host_allowed(host)) {
    forbid(fmt::format(
        "the host '{}' is none of this server's; if it is meant to be, "
        "start the server with --allowed-host",
        shown(host)));
  }
  const std::string_view origin = request.header("origin");
  if (!origin.empty()) {
    check_origin(request, origin);
    return;
  }
  // Browsers say so themselves where they leave out the origin.
  const std::string_view site = request.header("sec-fetch-site");
  if (!changes_nothing(request.method) && !site.empty() &&
      site != "same-origin" && site != "none") {
    forbid("a page of another site must not send this request");
  }
}

void Access::check_origin(const HttpRequest& request, std::string_view origin)
    const {
  if (origin_allowed(origin)) {
    return;
  }
  const auto parsed = parse_origin(origin);
  auto own = parse_authority(request.header("host"));
  if (parsed && own &&
      (parsed->scheme == "http" || parsed->scheme == "https")) {
    const uint16_t usual = parsed->scheme == "https" ? 443 : 80;
    if (own->port == usual) {
      own->port.reset();
    }
    if (parsed->authority.host == own->host &&
        parsed->authority.port == own->port) {
      return;
    }
  }
  forbid(fmt::format(
      "pages of the origin '{}' may not use this server; to let them, "
      "start the server with --allowed-origin",
      shown(origin)));
}

void Access::check_key(const HttpRequest& request) const {
  if (key_.empty() ||
      equal_in_constant_time(bearer(request.header("authorization")), key_) ||
      equal_in_constant_time(request.header("x-api-key"), key_)) {
    return;
  }
  throw ApiError(
      ApiErrorKind::unauthorized,
      "this server needs its API key, as 'Authorization: Bearer KEY' or "
      "'x-api-key: KEY'")
      .with_code("invalid_api_key");
}

Headers Access::cors_headers(const HttpRequest& request) const {
  if (origins_.empty()) {
    return {};
  }
  Headers headers = {{"vary", "Origin"}};
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && origin_allowed(origin)) {
    headers.emplace_back("access-control-allow-origin", origin);
    headers.emplace_back(
        "access-control-expose-headers", "x-request-id, retry-after");
  }
  return headers;
}

bool Access::is_preflight(const HttpRequest& request) const {
  return request.method == "OPTIONS" &&
      !request.header("access-control-request-method").empty() &&
      origin_allowed(request.header("origin"));
}

Headers Access::preflight_headers(
    const HttpRequest& request,
    const std::string& methods) const {
  Headers headers = {
      {"access-control-allow-methods", methods},
      {"access-control-max-age", "600"}};
  // The clients' libraries send headers of their own, so any are allowed to
  // the origins that are.
  const std::string_view asked =
      request.header("access-control-request-headers");
  if (!asked.empty() && only_tokens(asked)) {
    headers.emplace_back("access-control-allow-headers", asked);
  }
  return headers;
}

} // namespace mlx_flash::server
