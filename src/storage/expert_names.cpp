#include "storage/expert_names.h"

#include <charconv>
#include <string>

namespace mlx_flash {

namespace {

// <before layer>L<after layer>[E.]<projection>.<part>
struct Pattern {
  std::string_view before_layer;
  std::string_view after_layer;
  bool stacked;
  std::string_view projections[3]; // gate, up, down
};

constexpr Pattern kPatterns[] = {
    {"model.layers.",
     ".mlp.switch_mlp.",
     true,
     {"gate_proj", "up_proj", "down_proj"}},
    {"model.layers.",
     ".mlp.experts.",
     false,
     {"gate_proj", "up_proj", "down_proj"}},
};

constexpr std::string_view kParts[] = {"weight", "scales", "biases"};

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) {
    return false;
  }
  text.remove_prefix(prefix.size());
  return true;
}

// A number as a program writes it: no sign, no leading zeros.
bool take_number(std::string_view& text, uint16_t& value) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  const auto digits = static_cast<size_t>(end - text.data());
  if (error != std::errc() || (digits > 1 && text[0] == '0')) {
    return false;
  }
  text.remove_prefix(digits);
  return true;
}

bool take_tail(
    std::string_view text,
    const Pattern& pattern,
    ExpertName& parsed) {
  if (!pattern.stacked) {
    uint16_t expert;
    if (!take_number(text, expert) || !take(text, ".")) {
      return false;
    }
    parsed.expert = expert;
  }
  for (uint8_t p = 0; p < std::size(pattern.projections); ++p) {
    if (!take(text, pattern.projections[p])) {
      continue;
    }
    parsed.projection = p;
    for (uint8_t part = 0; part < std::size(kParts); ++part) {
      if (text.starts_with('.') && text.substr(1) == kParts[part]) {
        parsed.part = static_cast<ExpertPart>(part);
        return true;
      }
    }
  }
  return false;
}

} // namespace

NameKind parse_expert_name(std::string_view name, ExpertName& parsed) {
  for (const Pattern& pattern : kPatterns) {
    std::string_view text = name;
    if (!take(text, pattern.before_layer)) {
      continue;
    }
    const size_t after = text.find(pattern.after_layer);
    if (after == std::string_view::npos) {
      continue;
    }
    parsed = {};
    const bool known = take_number(text, parsed.layer) &&
        take(text, pattern.after_layer) && take_tail(text, pattern, parsed);
    return known ? NameKind::expert : NameKind::unknown;
  }
  return NameKind::dense;
}

} // namespace mlx_flash
