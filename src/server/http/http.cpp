#include "server/http/http.h"

namespace mlx_flash::server {

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) {
      return value;
    }
  }
  return {};
}

} // namespace mlx_flash::server
