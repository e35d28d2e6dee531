#include "server/http/accepted_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace mlx_flash::server {

namespace {

#ifdef TCP_KEEPIDLE
constexpr int kProbeAfter = TCP_KEEPIDLE;
#else
constexpr int kProbeAfter = TCP_KEEPALIVE; // its name on macOS
#endif

} // namespace

// Without any of these it works as well, as long as all goes well.
void set_up_socket(int descriptor) {
  const auto set = [&](int level, int option, int value) {
    ::setsockopt(descriptor, level, option, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  // The system's own times are hours.
  set(IPPROTO_TCP, kProbeAfter, 60); // seconds
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15); // seconds
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

} // namespace mlx_flash::server
