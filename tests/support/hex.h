// Exact floats in JSON: eight hexadecimal digits each.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

namespace mlx_flash::test {

inline std::vector<float> floats_from_hex(const std::string& digits) {
  std::vector<float> values;
  for (size_t i = 0; i + 8 <= digits.size(); i += 8) {
    const auto bits =
        static_cast<uint32_t>(std::stoul(digits.substr(i, 8), nullptr, 16));
    values.push_back(std::bit_cast<float>(bits));
  }
  return values;
}

} // namespace mlx_flash::test
