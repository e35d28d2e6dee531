#include "server/prometheus_text.h"

#include <fmt/format.h>

#include <cmath>

namespace mlx_flash::server {

namespace {

// Quotes are escaped in values of labels alone.
std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || (quotes && c == '"')) {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string number(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "+Inf" : "-Inf";
  }
  return fmt::to_string(value);
}

} // namespace

void PrometheusText::metric(
    std::string_view name,
    Type type,
    std::string_view help) {
  name_ = name;
  text_ += fmt::format(
      "# HELP {0} {1}\n# TYPE {0} {2}\n",
      name,
      escaped(help, false),
      type == Type::counter     ? "counter"
          : type == Type::gauge ? "gauge"
                                : "histogram");
}

void PrometheusText::sample(
    std::string_view suffix,
    std::string_view value,
    Labels labels) {
  text_ += name_;
  text_ += suffix;
  const char* before = "{";
  for (const auto& [label, content] : labels) {
    text_ += fmt::format("{}{}=\"{}\"", before, label, escaped(content, true));
    before = ",";
  }
  text_ += labels.size() == 0 ? " " : "} ";
  text_ += value;
  text_ += '\n';
}

void PrometheusText::sample(uint64_t value, Labels labels) {
  sample("", fmt::to_string(value), labels);
}

void PrometheusText::sample(double value, Labels labels) {
  sample("", number(value), labels);
}

void PrometheusText::histogram(
    std::span<const double> bounds,
    std::span<const uint64_t> counts,
    double sum) {
  uint64_t below = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    below += counts[i];
    sample(
        "_bucket",
        fmt::to_string(below),
        {{"le", i < bounds.size() ? number(bounds[i]) : "+Inf"}});
  }
  sample("_sum", number(sum), {});
  sample("_count", fmt::to_string(below), {});
}

} // namespace mlx_flash::server
