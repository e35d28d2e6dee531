// The flags of `mlx-flash serve` that are not about the model: address, access,
// work and limits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "server/server_options.h"

namespace mlx_flash::cli {

class ServeFlags {
 public:
  void declare(Flags& flags);

  // Into the options of each model.
  void set_prompt_cache(EngineOptions& options) const;

  // All but the models and the limits. Throws Error for values that cannot be
  // honoured. Sets the log's format.
  server::ServerOptions options() const;
  // `usual`, but for those that flags set. Throws as options().
  server::ServerLimits limits(server::ServerLimits usual) const;

  const std::vector<std::string>& aliases() const {
    return aliases_;
  }
  const std::vector<std::string>& more_models() const {
    return more_models_;
  }

 private:
  // A limit and the flag that sets it: whole numbers, or seconds.
  struct Count {
    const char* flag;
    uint64_t server::ServerLimits::* limit;
    uint64_t least;
    uint64_t most;
    const char* help;
  };
  struct Seconds {
    const char* flag;
    double server::ServerLimits::* limit;
    double least; // 0 where the help says what it means
    const char* help;
  };
  static const std::vector<Count>& counts();
  static const std::vector<Seconds>& seconds();
  void declare_limits(Flags& flags);
  std::string api_key() const;

  std::vector<std::string> aliases_;
  std::vector<std::string> more_models_;
  std::optional<std::pair<std::string, std::string>> prompt_cache_;
  std::optional<std::string> host_;
  std::optional<uint64_t> port_;
  std::optional<std::string> api_key_;
  std::optional<std::string> api_key_file_;
  std::vector<std::string> allowed_hosts_;
  std::vector<std::string> allowed_origins_;
  std::optional<float> keep_minutes_;
  std::optional<float> slow_seconds_;
  std::optional<float> keep_alive_seconds_;
  std::optional<std::string> log_format_;
  bool log_prompts_ = false;
  std::vector<std::optional<uint64_t>> count_values_;
  std::vector<std::optional<float>> seconds_values_;
};

} // namespace mlx_flash::cli
