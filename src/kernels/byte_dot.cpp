#include "kernels/byte_dot.h"

#include "platform/cpu_facts.h"

namespace mlx_flash::kernels {
namespace {

bool allowed = true;

} // namespace

bool uses_byte_dot() {
  static const bool has = cpu_has_byte_dot();
  return has && allowed;
}

void allow_byte_dot(bool allow) {
  allowed = allow;
}

} // namespace mlx_flash::kernels
