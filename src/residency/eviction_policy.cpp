#include "residency/eviction_policy.h"

#include "base/error.h"
#include "residency/efd.h"
#include "residency/lru.h"

namespace mlx_flash {

std::unique_ptr<EvictionPolicy> make_policy(
    std::string_view name,
    const PolicyShape& shape) {
  if (name == "efd") {
    return std::make_unique<Efd>(shape);
  }
  if (name == "lru") {
    return std::make_unique<Lru>(shape);
  }
  fail(
      ErrorCode::invalid_argument,
      "[policy] unknown eviction policy '{}'; use efd or lru",
      name);
}

} // namespace mlx_flash
