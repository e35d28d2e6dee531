// For tests: the demo model, with so many slots and tokens of context.
#pragma once

#include <filesystem>

#include "mlx_flash/engine.h"

namespace mlx_flash {

inline const std::filesystem::path kDemoModel =
    MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";

inline EngineOptions demo_options(uint64_t slots, uint64_t context_tokens) {
  EngineOptions options;
  options.model = kDemoModel;
  options.slots = slots;
  options.context_tokens = context_tokens;
  options.threads = 2;
  return options;
}

} // namespace mlx_flash
