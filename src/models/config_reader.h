// Typed, checked access to the values of a config.json.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mlx_flash {

// Every getter throws Error(bad_model) that names the key when the value is
// missing (and has no default), of another type, or out of range.
class ConfigReader {
 public:
  explicit ConfigReader(const std::string& json);
  ~ConfigReader();
  ConfigReader(ConfigReader&& other) noexcept;

  std::string text(const char* key) const;
  int64_t integer(
      const char* key,
      int64_t least,
      int64_t most,
      std::optional<int64_t> fallback = {}) const;
  double number(
      const char* key,
      double least,
      double most,
      std::optional<double> fallback = {}) const;
  bool boolean(const char* key, bool fallback) const;
  std::vector<int64_t> integers(const char* key, int64_t least, int64_t most)
      const; // empty when missing or null
  // False also for a null.
  bool has(const char* key) const;
  // The object under `key`, empty without one.
  ConfigReader object(const char* key) const;

 private:
  struct Values;
  explicit ConfigReader(std::unique_ptr<Values> values);
  std::unique_ptr<Values> values_;
};

} // namespace mlx_flash
