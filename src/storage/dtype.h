// Element types of safetensors files
// (https://huggingface.co/docs/safetensors: "dtype").
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mlx_flash {

enum class Dtype : uint8_t {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f16,
  bf16,
  f32,
  f64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
};

// Bytes of one element.
uint32_t dtype_bytes(Dtype dtype);
// "BF16", "U32", ... as a header spells it.
std::string_view dtype_name(Dtype dtype);
// Empty for a name this format does not have.
std::optional<Dtype> parse_dtype(std::string_view name);

} // namespace mlx_flash
