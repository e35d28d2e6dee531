// One connection of a client: reads its requests one after the other, gives
// each to the service and sends the answer, within the limits of time and
// memory; notices at once when the client goes. Its parts are in
// request_intake.h and http_answer.h; who makes connections is http_server.cpp.
//
// Thread rule: the loop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/http/http_server.h"
#include "server/http/unsent_bytes.h"

namespace boost::asio {
class io_context;
}

namespace mlx_flash::server {

inline constexpr size_t kConnectionReadBytes = 4u << 10; // at once
// Of each of its two buffers for writing, while there is nothing to write.
inline constexpr size_t kConnectionKeptBytes = 1u << 10;

class Connection {
 public:
  virtual ~Connection() = default;
  // It keeps itself alive from here until it is closed.
  virtual void start() = 0;
  // Since when, in now_seconds(), nothing has come of the next request. None
  // while there is one.
  virtual std::optional<double> idle_since() const = 0;
  // After the request that is in progress, if there is one.
  virtual void drain() = 0;
  virtual void close() = 0;
};

// What all connections of a server share. It outlives them.
struct ConnectionShare {
  boost::asio::io_context& io;
  Loop& loop;
  const ServerLimits& limits;
  HttpService service;
  std::function<std::string()> next_id;
  // Called by each once, when its socket is closed.
  std::function<void(Connection*)> closed;
  // Of the requests that are in memory: exchanges may keep them for longer.
  std::shared_ptr<std::atomic<uint64_t>> body_bytes =
      std::make_shared<std::atomic<uint64_t>>(0);
  std::shared_ptr<UnsentBytes> unsent = std::make_shared<UnsentBytes>(limits);
};

// A socket that was taken from those who wait. The connection owns it.
struct Accepted {
  int descriptor = -1;
  bool ipv6 = false;
  std::string peer; // address and port
};

// `refused`: there is no room for it; it is told so, and closed.
std::shared_ptr<Connection>
make_connection(ConnectionShare& share, const Accepted& accepted, bool refused);

} // namespace mlx_flash::server
