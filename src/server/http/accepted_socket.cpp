#include "server/http/accepted_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace mlx_flash::server {

namespace {

namespace asio = boost::asio;

using asio::ip::tcp;

#ifdef TCP_KEEPIDLE
constexpr int kProbeAfter = TCP_KEEPIDLE;
#else
constexpr int kProbeAfter = TCP_KEEPALIVE; // its name on macOS
#endif

// The system's own times are hours.
void probe_when_silent(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int option, int value) {
    ::setsockopt(
        socket.native_handle(), IPPROTO_TCP, option, &value, sizeof(value));
  };
  set(kProbeAfter, 60); // seconds
  set(TCP_KEEPINTVL, 15); // seconds
  set(TCP_KEEPCNT, 4);
}

} // namespace

tcp::socket adopt(asio::io_context& io, const Accepted& accepted) {
  tcp::socket socket(io);
  boost::system::error_code error;
  socket.assign(
      accepted.ipv6 ? tcp::v6() : tcp::v4(), accepted.descriptor, error);
  if (error) {
    ::close(accepted.descriptor);
    throw boost::system::system_error(error);
  }
  socket.set_option(tcp::no_delay(true), error);
  probe_when_silent(socket);
  return socket;
}

} // namespace mlx_flash::server
