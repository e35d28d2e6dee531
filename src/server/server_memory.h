// What the server itself takes of memory, beside the engine and its model, so
// that both together keep to the budget. The limits that decide it are
// ServerLimits; who keeps to each of them is named there by its part.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "server/server_options.h"

namespace mlx_flash::server {

// The most that these limits let clients make the server keep at once: bodies
// and what is made of them, connections, what is not sent yet, and what is
// kept for later requests.
uint64_t server_bytes(const ServerLimits& limits);

// The same limits, but where they would take more than a sixteenth of the
// budget those that take memory are smaller. None gets so small that ordinary
// requests would be refused, so that it may be more than a sixteenth after
// all.
ServerLimits scaled_limits(ServerLimits limits, uint64_t budget_bytes);

} // namespace mlx_flash::server
