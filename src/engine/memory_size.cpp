#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>

#include "base/error.h"
#include "mlx_flash/plan.h"

namespace mlx_flash {

namespace {

struct Unit {
  const char* name;
  double bytes;
};

constexpr std::array kUnits{
    Unit{"", 1},
    Unit{"b", 1},
    Unit{"k", 1e3},
    Unit{"kb", 1e3},
    Unit{"m", 1e6},
    Unit{"mb", 1e6},
    Unit{"g", 1e9},
    Unit{"gb", 1e9},
    Unit{"t", 1e12},
    Unit{"tb", 1e12},
    Unit{"kib", 1024.0},
    Unit{"mib", 1024.0 * 1024},
    Unit{"gib", 1024.0 * 1024 * 1024},
    Unit{"tib", 1024.0 * 1024 * 1024 * 1024},
};

[[noreturn]] void bad_size(const std::string& text) {
  fail(
      ErrorCode::invalid_argument,
      "[memory] '{}' is not a size; give for example 24MB, 4GB, 512MiB or 50%",
      text);
}

} // namespace

uint64_t parse_memory_size(const std::string& text, uint64_t total_bytes) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string number_text = text.substr(0, digits);
  char* end = nullptr;
  const double number = std::strtod(number_text.c_str(), &end);
  if (number_text.empty() || *end != '\0' || !std::isfinite(number) ||
      number <= 0) {
    bad_size(text);
  }
  std::string unit;
  for (const char c : text.substr(number_text.size())) {
    if (c != ' ') {
      unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  if (unit == "%") {
    if (number > 100) {
      bad_size(text);
    }
    return static_cast<uint64_t>(
        number / 100 * static_cast<double>(total_bytes));
  }
  for (const Unit& known : kUnits) {
    if (unit == known.name && number * known.bytes < 0x1p62) {
      return static_cast<uint64_t>(number * known.bytes);
    }
  }
  bad_size(text);
}

std::string format_bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) {
    return fmt::format("{} B", bytes);
  }
  if (bytes < 1000 * 1000) {
    return fmt::format("{:.1f} KB", value / 1e3);
  }
  if (bytes < 1000ull * 1000 * 1000) {
    return fmt::format("{:.1f} MB", value / 1e6);
  }
  return fmt::format("{:.2f} GB", value / 1e9);
}

} // namespace mlx_flash
