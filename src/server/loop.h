// Where the server's work is done: on the loop, the thread of the network,
// which must never be held up; and by workers, who may take their time.
//
// Thread rule: any thread.
#pragma once

#include <functional>

namespace mlx_flash::server {

using Task = std::function<void()>;

class Loop {
 public:
  virtual ~Loop() = default;

  // In the order of the calls of one thread.
  virtual void post(Task task) = 0;
  // Not before so many seconds have passed. Returns what calls it off, so that
  // nothing of it is left: from any thread, as long as the loop is there. Once
  // the task has begun it does nothing.
  virtual Task post_after(double seconds, Task task) = 0;
};

// Reads bodies, renders templates, tokenizes.
class Workers {
 public:
  virtual ~Workers() = default;

  // False, without having taken it, while too much waits.
  [[nodiscard]] virtual bool post(Task task) = 0;
};

} // namespace mlx_flash::server
