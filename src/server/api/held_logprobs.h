// Log-probabilities that an answer gathers before they are sent. They count as
// bytes that wait for its client, of which all clients together have a limit.
//
// Thread rule: the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "server/http/http.h"
#include "server/job.h"

namespace mlx_flash::server {

class HeldLogprobs {
 public:
  // As a TokenText and then as JSON's text; and as JSON's values.
  static constexpr uint64_t kAsText = 128;
  static constexpr uint64_t kAsValues = 512;

  // `bytes` is what each takes.
  HeldLogprobs(std::shared_ptr<HttpExchange> exchange, uint64_t bytes);

  // All of them throw ApiError(unavailable) where there is no room.
  //
  // So many will come, each with so many candidates: they count already.
  void expect(uint64_t tokens, uint64_t candidates);
  void add(std::span<const TokenText> tokens);
  // What has come was sent.
  void clear();

 private:
  void hold();

  const std::shared_ptr<HttpExchange> exchange_;
  const uint64_t bytes_;
  uint64_t held_ = 0;
  uint64_t expected_ = 0; // beside it
};

} // namespace mlx_flash::server
