// Takes what the engine's thread tells of an answer to the loop, all that has
// come in the meantime at once.
//
// Thread rule: the engine's thread calls it, and it calls back on the loop.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_flash/generation.h"
#include "server/api_error.h"
#include "server/loop.h"

namespace mlx_flash::server {

struct GenerationEvent {
  enum class Kind { progress, text, end };
  Kind kind = Kind::progress;
  double time = 0; // when the engine told of it, as now_seconds() has it
  GenerationProgress progress{};
  std::string text{};
  std::vector<ChosenToken> tokens{};
  GenerationResult result{};
  std::optional<ApiError> error{}; // instead of a result
};

class GenerationInbox : public GenerationListener,
                        public std::enable_shared_from_this<GenerationInbox> {
 public:
  using Take = std::function<void(const std::vector<GenerationEvent>& events)>;

  // The loop must outlive the engine.
  GenerationInbox(Loop& loop, Take take)
      : loop_(loop), take_(std::move(take)) {}

  void on_progress(const GenerationProgress& progress) override;
  void on_text(std::string_view text, std::span<const ChosenToken> tokens)
      override;
  void on_end(GenerationResult result, std::exception_ptr error) override;

 private:
  void push(GenerationEvent event);
  void deliver();

  Loop& loop_;
  const Take take_;
  std::mutex mutex_;
  std::vector<GenerationEvent> events_;
};

} // namespace mlx_flash::server
