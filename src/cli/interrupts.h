// Control-C and SIGTERM during long work. The first one calls the handler
// that is there, which ends the work in good order; without a handler, and at
// the second one, the program ends at once with exit code 130.
//
// Thread rule: one object at a time, used by one thread. The handler is
// called on a thread of its own.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace mlx_flash::cli {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts(); // signals end the program again
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Handles interrupts for as long as it lives. Its destructor waits for a
  // call in progress.
  class Handler {
   public:
    Handler(Interrupts& interrupts, std::function<void()> handle)
        : interrupts_(interrupts) {
      interrupts_.set_handler(std::move(handle));
    }
    ~Handler() {
      interrupts_.set_handler({});
    }
    Handler(const Handler&) = delete;
    Handler& operator=(const Handler&) = delete;

   private:
    Interrupts& interrupts_;
  };

 private:
  void set_handler(std::function<void()> handler);
  void watch();

  std::mutex mutex_;
  std::function<void()> handler_;
  bool interrupted_ = false; // of the watcher
  std::thread watcher_;
};

} // namespace mlx_flash::cli
