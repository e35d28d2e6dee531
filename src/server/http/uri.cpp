#include "server/http/uri.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

constexpr size_t kMostHostBytes = 255; // of a name in DNS

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
      c == '.' || c == '_';
}

// In the one form that inet_ntop() has for it; empty for another text.
std::string ipv6_of(const std::string& text) {
  std::array<unsigned char, 16> address{};
  std::array<char, INET6_ADDRSTRLEN> shown{};
  if (inet_pton(AF_INET6, text.c_str(), address.data()) != 1 ||
      !inet_ntop(AF_INET6, address.data(), shown.data(), shown.size())) {
    return {};
  }
  return shown.data();
}

bool is_ipv4(const std::string& text) {
  std::array<unsigned char, 4> address{};
  return inet_pton(AF_INET, text.c_str(), address.data()) == 1;
}

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return port;
}

std::string host_of(std::string_view text) {
  std::string host = to_lower(text);
  if (host.size() > 1 && host.back() == '.') {
    host.pop_back(); // a name that is written out to the root
  }
  const bool name = !host.empty() && host.size() <= kMostHostBytes &&
      std::all_of(host.begin(), host.end(), is_name_byte);
  return name ? host : std::string();
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

[[noreturn]] void bad_target(const char* why) {
  throw ApiError(
      ApiErrorKind::invalid_request,
      std::string("the target of the request is malformed: ") + why);
}

std::string decode_path(std::string_view text) {
  std::string path;
  path.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
      if (low < 0) {
        bad_target("'%' needs two hexadecimal digits behind it");
      }
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      bad_target("its path has a control character");
    }
    path.push_back(c);
  }
  return path;
}

// Of "http://host/path": moves "/path" into `target` and returns "host".
std::string_view take_authority(std::string_view& target) {
  const size_t colon = target.find("://");
  if (colon == std::string_view::npos) {
    bad_target("it must begin with '/'");
  }
  const std::string scheme = to_lower(target.substr(0, colon));
  if (scheme != "http" && scheme != "https") {
    bad_target("its scheme must be http");
  }
  target.remove_prefix(colon + 3);
  const size_t end = std::min(target.find_first_of("/?"), target.size());
  const std::string_view authority = target.substr(0, end);
  if (!parse_authority(authority)) {
    bad_target("it names no host");
  }
  target.remove_prefix(end);
  return authority;
}

} // namespace

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') {
      c = static_cast<char>(c - 'A' + 'a');
    }
  }
  return lower;
}

std::optional<Authority> parse_authority(std::string_view text) {
  Authority authority;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    authority.host = ipv6_of(std::string(text.substr(1, end - 1)));
    text.remove_prefix(end + 1);
  } else {
    const size_t end = std::min(text.find(':'), text.size());
    authority.host = host_of(text.substr(0, end));
    text.remove_prefix(end);
  }
  if (authority.host.empty()) {
    return std::nullopt;
  }
  // A colon without a port means the usual one (RFC 3986).
  if (text.empty() || text == ":") {
    return authority;
  }
  if (text.front() == ':') {
    authority.port = parse_port(text.substr(1));
  }
  return authority.port ? std::optional(authority) : std::nullopt;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" ||
      (is_ipv4(host) && host.starts_with("127."));
}

bool is_address(const std::string& host) {
  return is_ipv4(host) || !ipv6_of(host).empty();
}

std::optional<Origin> parse_origin(std::string_view text) {
  const size_t colon = text.find("://");
  if (colon == 0 || colon == std::string_view::npos) {
    return std::nullopt;
  }
  Origin origin{to_lower(text.substr(0, colon)), {}};
  const auto authority = parse_authority(text.substr(colon + 3));
  if (!authority) {
    return std::nullopt;
  }
  origin.authority = *authority;
  const uint16_t usual = origin.scheme == "https" ? 443 : 80;
  if (origin.authority.port == usual) {
    origin.authority.port.reset();
  }
  return origin;
}

Target parse_target(std::string_view target) {
  Target parsed;
  if (target == "*") {
    parsed.path = "*";
    return parsed;
  }
  if (!target.starts_with('/')) {
    parsed.authority = take_authority(target);
  }
  if (target.find('#') != std::string_view::npos) {
    bad_target("it has a fragment ('#')");
  }
  const size_t end = std::min(target.find('?'), target.size());
  parsed.path = decode_path(target.substr(0, end));
  if (parsed.path.empty()) {
    parsed.path = "/"; // of "http://host"
  }
  if (end < target.size()) {
    parsed.query = target.substr(end + 1);
  }
  return parsed;
}

} // namespace mlx_flash::server
