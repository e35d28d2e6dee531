// Streamed equals resident, checked on a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "mlx_flash/engine.h"

namespace mlx_flash {

struct VerifyCase {
  std::string what; // such as "48 of 192 slots, efd, uring, 2 threads"
  bool passed = false;
  std::string detail; // the first difference, or the error
};

// Runs a prompt of its own with every expert resident and then streamed, over
// several slot counts and both policies, and compares all logits bit for bit.
// Where the budget of `options` is too small for a resident run, the largest
// slot count that fits is the reference, and the first case says so.
// `on_case` is called after each case. Returns how many failed.
int verify_streaming(
    const EngineOptions& options,
    const std::function<void(const VerifyCase&)>& on_case);

// Reads the whole model once and writes its checksums to `file`. Throws
// Error(invalid_argument) if the file exists: its sums may be the good ones.
void write_checksums(
    const EngineOptions& options,
    const std::filesystem::path& file);

// Reads the whole model once and compares it with `file`. Returns the first
// difference, empty without one.
std::string compare_checksums(
    const EngineOptions& options,
    const std::filesystem::path& file);

} // namespace mlx_flash
