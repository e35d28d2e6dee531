#include "residency/eviction_policy.h"

#include <utility>

#include "base/error.h"
#include "residency/efd.h"
#include "residency/lru.h"

namespace mlx_flash {

namespace {

using Make = std::unique_ptr<EvictionPolicy> (*)(const PolicyShape& shape);

template <class Policy>
std::unique_ptr<EvictionPolicy> make(const PolicyShape& shape) {
  return std::make_unique<Policy>(shape);
}

constexpr std::pair<std::string_view, Make> kPolicies[] = {
    {"efd", make<Efd>},
    {"lru", make<Lru>},
};

Make find_policy(std::string_view name) {
  for (const auto& [known, make_it] : kPolicies) {
    if (known == name) {
      return make_it;
    }
  }
  fail(
      ErrorCode::invalid_argument,
      "[policy] unknown eviction policy '{}'; use efd or lru",
      name);
}

} // namespace

std::unique_ptr<EvictionPolicy> make_policy(
    std::string_view name,
    const PolicyShape& shape) {
  return find_policy(name)(shape);
}

void require_policy(std::string_view name) {
  find_policy(name);
}

} // namespace mlx_flash
