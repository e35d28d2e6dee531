// Control-C and SIGTERM during long work. The first one calls the handler
// that is there, which ends the work in good order; without a handler, and at
// the second one, the program ends at once with exit code 130. A handler that
// wants to hear of the second one too ends the program itself; the third one
// does in any case.
//
// Thread rule: one object at a time, used by one thread. The handler is
// called on a thread of its own.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace mlx_flash::cli {

// At once, with exit code 130, whatever is going on.
[[noreturn]] void end_program();

class Interrupts {
 public:
  // What the second one does.
  enum class Repeat { ends_program, to_handler };
  explicit Interrupts(Repeat repeat = Repeat::ends_program);
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
  const int most_handled_;
  int handled_ = 0; // of the watcher
  std::thread watcher_;
};

} // namespace mlx_flash::cli
