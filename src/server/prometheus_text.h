// Writes Prometheus' text format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). What is
// counted is in metrics.h.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace mlx_flash::server {

class PrometheusText {
 public:
  enum class Type { counter, gauge, histogram };

  // Begins a metric; what follows are its samples. Names are ours: letters,
  // digits and '_'.
  void metric(std::string_view name, Type type, std::string_view help);

  // Values may be anything.
  using Labels =
      std::initializer_list<std::pair<std::string_view, std::string_view>>;
  void sample(uint64_t value, Labels labels = {});
  void sample(double value, Labels labels = {});

  // The samples of a histogram. counts[i] is of what is up to bounds[i] and
  // above the bound before it; the last one, of what is above all.
  void histogram(
      std::span<const double> bounds,
      std::span<const uint64_t> counts,
      double sum);

  const std::string& text() const {
    return text_;
  }

 private:
  void sample(std::string_view suffix, std::string_view value, Labels labels);

  std::string name_;
  std::string text_;
};

} // namespace mlx_flash::server
