// What a request says about where it wants to go: its target, and the host of
// a Host or an Origin header, taken apart and checked. Who may ask for what is
// in access.h.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mlx_flash::server {

// "[::1]:8080" is the host "::1" and the port 8080.
struct Authority {
  std::string host; // lower case, without brackets
  std::optional<uint16_t> port{};
};

// Empty for what is no name and no address of a host, or has a bad port.
std::optional<Authority> parse_authority(std::string_view text);

// "localhost", 127.0.0.0/8 or ::1, as parse_authority() gives it.
bool is_loopback(const std::string& host);
// An IPv4 or IPv6 address rather than a name.
bool is_address(const std::string& host);

// "https://chat.example.org": nothing may follow the host and its port.
struct Origin {
  std::string scheme; // lower case
  Authority authority; // without the scheme's usual port
};

std::optional<Origin> parse_origin(std::string_view text);

struct Target {
  std::string path; // decoded; begins with '/', or is "*"
  std::string query; // what follows '?', as it came
  std::string authority; // of a target such as "http://host/path", else empty
};

// Throws ApiError(invalid_request).
Target parse_target(std::string_view target);

// ASCII letters alone; other bytes stay.
std::string to_lower(std::string_view text);

} // namespace mlx_flash::server
