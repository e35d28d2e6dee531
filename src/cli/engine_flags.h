// The flags of every command that plans or opens an engine.
#pragma once

#include <optional>
#include <string>

#include "cli/flags.h"
#include "mlx_flash/engine.h"

namespace mlx_flash::cli {

class EngineFlags {
 public:
  // MODEL, which comes first on the command line.
  void declare_model(Flags& flags);
  void declare_memory(Flags& flags);
  void declare_threads(Flags& flags);
  // What else decides the plan, the two above included.
  void declare_plan(Flags& flags, const char* default_context);
  // All of them, with what matters only when a model runs. `log_level` is what
  // is reported unless the flags say otherwise.
  void declare_all(Flags& flags, const char* log_level = "warn");

  // `context_tokens` is what the command needs when --ctx does not say (0:
  // the engine's choice). Throws Error(invalid_argument) without a MODEL and
  // for flags that contradict each other. Sets the log level.
  EngineOptions options(uint64_t context_tokens) const;

  // Of a command that knows MODEL by another flag too. Throws
  // Error(invalid_argument) if both are given.
  void set_model(const std::optional<std::string>& model);
  // Throws as options() without a MODEL.
  const std::string& model() const;
  bool quiet() const {
    return quiet_;
  }

 private:
  std::optional<std::string> model_;
  std::optional<std::string> memory_;
  std::optional<uint64_t> slots_;
  std::optional<uint64_t> threads_;
  std::optional<std::string> precision_;
  std::optional<std::string> reader_;
  std::optional<std::string> policy_;
  std::optional<std::string> device_;
  std::optional<uint64_t> context_tokens_;
  std::optional<uint64_t> prefill_chunk_;
  std::optional<std::string> checksums_;
  std::optional<std::string> log_level_;
  std::string usual_log_level_ = "warn";
  bool resident_ = false;
  bool quiet_ = false;
};

} // namespace mlx_flash::cli
