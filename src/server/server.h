// The server as a whole: what mlx-flash's `serve` starts and ends. Its parts
// know of each other here alone.
//
// Thread rule: all methods from any thread, but wait() and the destructor not
// from one of its own. Not from a signal's handler: what waits for signals
// (cli/interrupts.h) has a thread.
#pragma once

#include <cstdint>
#include <memory>

#include "server/server_options.h"

namespace mlx_flash::server {

class Server {
 public:
  // Throws Error(invalid_argument) for options that cannot be honoured.
  explicit Server(ServerOptions options);
  // Stops. Waits for the model if it is just being loaded.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Takes connections from here on; the model is loaded meanwhile. Throws
  // Error when the address cannot be had.
  void start();
  uint16_t port() const;

  // Takes no more requests. Those in progress have drain_seconds to end; what
  // has not ended by then is told so.
  void begin_drain();
  // All connections end at once.
  void stop_now();
  // Until it was drained or stopped.
  void wait();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

} // namespace mlx_flash::server
