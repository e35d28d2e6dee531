// The rows of one step. A prefill chunk, one decoded token and several users
// decoding together are the same thing with other row counts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace mlx_flash::ops {

// Consecutive rows of one sequence, at consecutive positions.
struct Segment {
  int sequence = 0; // in the KV cache
  int first_row = 0;
  int rows = 0;
  int start = 0; // position of the first row: the sequence's length before
};

struct Batch {
  std::vector<uint32_t> tokens; // [rows]
  std::vector<int32_t> positions; // [rows]
  std::vector<Segment> segments; // in row order; each sequence at most once

  int rows() const {
    return static_cast<int>(tokens.size());
  }

  // The rows of the longest segment.
  int longest() const {
    int most = 0;
    for (const Segment& segment : segments) {
      most = std::max(most, segment.rows);
    }
    return most;
  }

  // Adds `tokens` of `sequence`, which is `start` tokens long.
  template <typename Tokens>
  void add(int sequence, int start, const Tokens& ids) {
    segments.push_back(
        {sequence, rows(), static_cast<int>(std::size(ids)), start});
    int position = start;
    for (const uint32_t id : ids) {
      tokens.push_back(id);
      positions.push_back(position++);
    }
  }
};

} // namespace mlx_flash::ops
