// verify_streaming() with the way to open an engine as an argument, so that
// tests can show that a wrong result is found.
#pragma once

#include <functional>
#include <memory>

#include "mlx_flash/verify.h"

namespace mlx_flash {

using OpenEngine =
    std::function<std::unique_ptr<Engine>(const EngineOptions& options)>;

int verify_with(
    const EngineOptions& options,
    const OpenEngine& open,
    const std::function<void(const VerifyCase&)>& on_case);

} // namespace mlx_flash
