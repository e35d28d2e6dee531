#include "cli/progress.h"

#include <fmt/format.h>

#include <filesystem>

namespace mlx_flash::cli {

namespace {

double rate(uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

// Of the folder's path, which may end in a slash.
std::string model_name(const std::string& path) {
  std::error_code error;
  const auto absolute =
      std::filesystem::absolute(path + "/.", error).lexically_normal();
  return absolute.parent_path().filename().string();
}

std::string memory(const Stats& stats) {
  return fmt::format(
      "memory {} of {}",
      format_bytes(stats.peak_bytes),
      format_bytes(stats.budget_bytes));
}

} // namespace

std::string loaded_line(const Plan& plan) {
  return fmt::format(
      "{}: {} of weights, room for {} of {} experts, budget {} ({})",
      model_name(plan.model),
      format_bytes(plan.model_bytes),
      plan.slots,
      plan.experts,
      format_bytes(plan.budget_bytes),
      plan.budget_source);
}

std::string prefill_line(const Stats& stats, uint64_t prompt_tokens) {
  return fmt::format(
      "prompt {} of {} tokens, {:.1f} tok/s | {}",
      stats.prefill_tokens,
      prompt_tokens,
      rate(stats.prefill_tokens, stats.prefill_seconds),
      memory(stats));
}

std::string decode_line(const Stats& stats, uint64_t answer_tokens) {
  const uint64_t tokens = stats.decode_tokens;
  const uint64_t hits = stats.decode_expert_hits;
  const uint64_t lookups = hits + stats.decode_expert_misses;
  std::string line = fmt::format("{} tok", answer_tokens);
  if (tokens > 0) {
    line += fmt::format(", {:.1f} tok/s", rate(tokens, stats.decode_seconds));
  }
  if (lookups > 0) {
    line += fmt::format(
        " | hits {:.1f} %",
        100 * static_cast<double>(hits) / static_cast<double>(lookups));
  }
  if (tokens > 0) {
    line += fmt::format(
        " | {} read/tok", format_bytes(stats.decode_bytes_read / tokens));
  }
  return line + " | " + memory(stats);
}

std::string summary_line(const Stats& end, uint64_t answer_tokens) {
  return fmt::format(
      "prompt {} tokens, {:.1f} tok/s | {}",
      end.prefill_tokens,
      rate(end.prefill_tokens, end.prefill_seconds),
      decode_line(end, answer_tokens));
}

} // namespace mlx_flash::cli
