// Which routes a path may mean. Who may take them, and what then happens, is
// in router.h.
//
// Thread rule: const after construction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/api/routes.h"

namespace mlx_flash::server {

class RouteTable {
 public:
  explicit RouteTable(std::vector<Route> routes);

  // The routes of one path, which differ in their methods.
  struct Group {
    std::string pattern;
    std::vector<std::string> parts; // of the pattern
    std::vector<Route> routes;
    std::string methods; // "GET, HEAD, OPTIONS"

    // That of the method; of HEAD it is that of GET. Null if there is none.
    const Route* find(const std::string& method) const;
  };

  struct Match {
    const Group* group = nullptr; // null: the path is not known
    std::string argument; // what stands for "{...}"
  };

  // Patterns without "{...}" come before those with, and "{name}" before
  // "{name...}".
  Match find(std::string_view path) const;

  // A known path that may have been meant, else empty.
  std::string suggest(const std::string& path) const;

 private:
  std::vector<Group> groups_; // in the order in which they are tried
};

} // namespace mlx_flash::server
