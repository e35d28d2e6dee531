#include "storage/model_config.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "storage/json_scanner.h"

namespace mlx_flash {

namespace {

using Kind = JsonScanner::Kind;

constexpr JsonLimits kLimits{
    .depth = 64,
    .string_bytes = 4096,
    .values = 300'000};
constexpr std::array kBits = {2, 3, 4, 5, 6, 8};
constexpr std::array kGroupSizes = {32, 64, 128};
constexpr std::array kMxfp4Bits = {4};
constexpr std::array kMxfp4GroupSizes = {32};

class Parser {
 public:
  Parser(std::string_view text, const std::filesystem::path& path)
      : path_(path.string()),
        json_(
            text,
            fmt::format("[config] {}", path_),
            "mend it, or download it again",
            kLimits) {}

  ModelConfig parse() {
    bool has_type = false, has_quantization = false;
    json_.begin_object();
    for (std::string name; json_.next_member(name);) {
      if (name == "model_type") {
        once(has_type, name);
        config_.model_type = json_.string();
      } else if (name == "quantization") {
        once(has_quantization, name);
        parse_quantization();
      } else if (
          name == "quantization_config" && json_.peek() == Kind::object) {
        once(has_foreign_, name);
        parse_foreign();
      } else {
        json_.skip();
      }
    }
    json_.finish();
    check(has_type);
    return std::move(config_);
  }

 private:
  void once(bool& seen, std::string_view name) {
    if (std::exchange(seen, true)) {
      json_.refuse(fmt::format("{} for the second time", in_quotes(name)));
    }
  }

  // The entry of a module, or the global one with its modules' entries.
  struct Fields {
    std::optional<int> bits;
    std::optional<int> group_size;
    std::optional<std::string> mode;
  };

  int integer(std::string_view name) {
    const int64_t value = json_.unsigned_integer();
    if (value < 1 || value > 1024) {
      json_.refuse(fmt::format("{} of {}", name, value));
    }
    return static_cast<int>(value);
  }

  template <typename T>
  void set(std::optional<T>& field, T value, std::string_view name) {
    if (field) {
      json_.refuse(fmt::format("{} for the second time", in_quotes(name)));
    }
    field = std::move(value);
  }

  bool parse_field(const std::string& name, Fields& fields) {
    if (name == "bits") {
      set(fields.bits, integer(name), name);
    } else if (name == "group_size") {
      set(fields.group_size, integer(name), name);
    } else if (name == "mode") {
      set(fields.mode, json_.string(), name);
    } else {
      return false;
    }
    return true;
  }

  void parse_quantization() {
    if (json_.peek() == Kind::null) {
      json_.null();
      return;
    }
    Fields fields;
    json_.begin_object();
    for (std::string name; json_.next_member(name);) {
      if (!parse_field(name, fields)) {
        parse_override(name);
      }
    }
    if (!fields.bits || !fields.group_size) {
      json_.refuse("\"quantization\" without bits and group_size");
    }
    config_.quantization = entry(fields, "quantization");
    for (const auto& module : like_global_) {
      config_.overrides[module] = config_.quantization;
    }
  }

  void parse_override(const std::string& module) {
    if (config_.overrides.contains(module)) {
      json_.refuse(fmt::format("{} for the second time", in_quotes(module)));
    }
    auto& slot = config_.overrides[module];
    if (json_.peek() == Kind::boolean) {
      // `true` means the global setting, which may still follow.
      if (json_.boolean()) {
        like_global_.push_back(module);
      }
      return;
    }
    Fields fields;
    json_.begin_object();
    for (std::string name; json_.next_member(name);) {
      if (!parse_field(name, fields)) {
        json_.refuse(fmt::format(
            "{} in the quantization of {}",
            in_quotes(name),
            in_quotes(module)));
      }
    }
    slot = entry(fields, module);
  }

  // MLX's defaults, whatever the global setting says.
  QuantizationEntry entry(const Fields& fields, std::string_view where) {
    QuantizationEntry result;
    result.mode = fields.mode.value_or("affine");
    const int bits = fields.bits.value_or(4);
    if (result.mode == "affine") {
      result.quantization = {bits, fields.group_size.value_or(64)};
      require(
          kBits,
          kGroupSizes,
          *result.quantization,
          where,
          "MLX has 2, 3, 4, 5, 6 and 8 bits in groups of 32, 64 and 128");
    } else if (result.mode == "mxfp4") {
      result.quantization = {
          bits, fields.group_size.value_or(32), QuantizationMode::mxfp4};
      require(
          kMxfp4Bits,
          kMxfp4GroupSizes,
          *result.quantization,
          where,
          "mxfp4 has 4 bits in groups of 32");
    }
    return result;
  }

  void require(
      std::span<const int> bits,
      std::span<const int> group_sizes,
      const Quantization& found,
      std::string_view where,
      std::string_view known) {
    const auto has = [](std::span<const int> all, int value) {
      return std::find(all.begin(), all.end(), value) != all.end();
    };
    if (!has(bits, found.bits) || !has(group_sizes, found.group_size)) {
      json_.refuse(fmt::format(
          "{} bits in groups of {} for {}; {}",
          found.bits,
          found.group_size,
          in_quotes(where),
          known));
    }
  }

  void parse_foreign() {
    json_.begin_object();
    for (std::string name; json_.next_member(name);) {
      if (name == "quant_method" && json_.peek() == Kind::string) {
        method_ = json_.string();
      } else {
        json_.skip();
      }
    }
  }

  void check(bool has_type) {
    if (!has_type || config_.model_type.empty()) {
      fail(
          ErrorCode::bad_model,
          "[config] {}: no model_type; this is not the config.json of a "
          "Hugging Face or MLX model",
          path_);
    }
    // MLX writes its own settings under both names.
    if (has_foreign_ && !config_.quantization) {
      fail(
          ErrorCode::unsupported,
          "[config] {}: weights quantised by {} and not by MLX; take an MLX "
          "conversion of the model, or make one with mlx_lm.convert",
          path_,
          in_quotes(method_));
    }
  }

  std::string path_;
  JsonScanner json_;
  ModelConfig config_;
  std::vector<std::string> like_global_;
  std::string method_ = "another method";
  bool has_foreign_ = false;
};

} // namespace

ModelConfig parse_model_config(
    std::string_view text,
    const std::filesystem::path& path) {
  return Parser(text, path).parse();
}

} // namespace mlx_flash
