#include "kernels/byte_dot.h"

#include "platform/cpu_facts.h"

namespace mlx_flash::kernels {
namespace {

bool allowed = true;

} // namespace

bool uses_byte_dot(int vector_bits) {
  static const bool has_128 = cpu_has_byte_dot(128);
  static const bool has_256 = cpu_has_byte_dot(256);
  static const bool has_512 = cpu_has_byte_dot(512);
  const bool has = vector_bits == 512 ? has_512
      : vector_bits == 256            ? has_256
                                      : vector_bits == 128 && has_128;
  return has && allowed;
}

void allow_byte_dot(bool allow) {
  allowed = allow;
}

} // namespace mlx_flash::kernels
