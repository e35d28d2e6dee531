#include "server/server_memory.h"

#include <algorithm>

#include "server/http/connection.h"
#include "server/http/request_reader.h"
#include "server/workers.h"

namespace mlx_flash::server {

namespace {

// A body as it came, the prompt that it becomes, and the prompt's tokens.
constexpr uint64_t kBodyCopies = 3;
// Half of a member of an object that has just grown: a short name and a short
// string take 144 together. All else takes less.
constexpr uint64_t kJsonValueBytes = 72;
// All of it and half as much again (UnsentBytes).
constexpr uint64_t kUnsentHalves = 3;
constexpr double kBudgetShare = 1.0 / 16;

// An entry of Headers beside its characters: itself, and what is allocated
// beyond what two strings hold.
constexpr uint64_t kHeaderBytes = sizeof(Headers::value_type) + 2 * 32;
// A connection, its coroutines and its answer, without what they hold.
constexpr uint64_t kConnectionObjects = 4u << 10;

// What was sent ahead, the headers of the request in progress, and buffers.
uint64_t connection_bytes(const ServerLimits& limits) {
  return 2 * limits.header_bytes + kMostHeaders * kHeaderBytes +
      kConnectionReadBytes + 2 * kConnectionKeptBytes + kConnectionObjects;
}

// What is scaled, and what it is at least.
struct Scaled {
  uint64_t ServerLimits::* limit;
  uint64_t least;
};
constexpr Scaled kScaled[] = {
    {&ServerLimits::connections, 80},
    {&ServerLimits::header_bytes, 8u << 10},
    {&ServerLimits::body_bytes, 1u << 20},
    {&ServerLimits::all_body_bytes, 1u << 20},
    {&ServerLimits::json_values, 4096},
    {&ServerLimits::unsent_bytes, 128u << 10},
    {&ServerLimits::all_unsent_bytes, 512u << 10},
    {&ServerLimits::stored_response_bytes, 256u << 10},
    {&ServerLimits::replayed_bytes, 256u << 10},
};

} // namespace

uint64_t server_bytes(const ServerLimits& limits) {
  return kBodyCopies * std::max(limits.body_bytes, limits.all_body_bytes) +
      kMostWorkers * kJsonValueBytes * limits.json_values +
      limits.connections * connection_bytes(limits) +
      kUnsentHalves * limits.all_unsent_bytes / 2 +
      limits.stored_response_bytes + limits.replayed_bytes;
}

ServerLimits scaled_limits(ServerLimits limits, uint64_t budget_bytes) {
  const double share = kBudgetShare * static_cast<double>(budget_bytes) /
      static_cast<double>(server_bytes(limits));
  if (share >= 1) {
    return limits;
  }
  for (const Scaled& each : kScaled) {
    uint64_t& limit = limits.*each.limit;
    const auto smaller =
        static_cast<uint64_t>(static_cast<double>(limit) * share);
    limit = std::min(limit, std::max(smaller, each.least));
  }
  return limits;
}

} // namespace mlx_flash::server
