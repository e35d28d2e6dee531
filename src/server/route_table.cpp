#include "server/route_table.h"

#include <algorithm>
#include <array>
#include <utility>

namespace mlx_flash::server {

namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin + 1), path.size());
    parts.emplace_back(path.substr(begin, end - begin)); // with its '/'
    begin = end;
  }
  return parts;
}

enum class Kind { literal, one, rest };

Kind kind_of(const std::string& part) {
  if (!part.starts_with("/{")) {
    return Kind::literal;
  }
  return part.ends_with("...}") ? Kind::rest : Kind::one;
}

Kind widest(const std::vector<std::string>& parts) {
  Kind kind = Kind::literal;
  for (const std::string& part : parts) {
    kind = std::max(kind, kind_of(part));
  }
  return kind;
}

// Whether `path` is one of the pattern's; sets `argument`.
bool matches(
    const std::vector<std::string>& parts,
    std::string_view path,
    std::string& argument) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const Kind kind = kind_of(parts[i]);
    if (kind == Kind::literal) {
      if (!path.starts_with(parts[i])) {
        return false;
      }
      path.remove_prefix(parts[i].size());
      if (!path.empty() && path.front() != '/') {
        return false;
      }
      continue;
    }
    const size_t end = kind == Kind::rest
        ? path.size()
        : std::min(path.find('/', 1), path.size());
    if (end < 2) {
      return false;
    }
    argument = path.substr(1, end - 1);
    path.remove_prefix(end);
  }
  return path.empty();
}

} // namespace

const Route* RouteTable::Group::find(const std::string& method) const {
  const auto named = [&](const std::string& name) {
    const auto found =
        std::find_if(routes.begin(), routes.end(), [&](const Route& route) {
          return route.method == name;
        });
    return found == routes.end() ? nullptr : &*found;
  };
  const Route* route = named(method);
  return !route && method == "HEAD" ? named("GET") : route;
}

RouteTable::RouteTable(std::vector<Route> routes) {
  for (Route& route : routes) {
    auto group =
        std::find_if(groups_.begin(), groups_.end(), [&](const Group& known) {
          return known.pattern == route.path;
        });
    if (group == groups_.end()) {
      groups_.push_back({route.path, split(route.path), {}, {}});
      group = groups_.end() - 1;
    }
    group->methods +=
        route.method == "GET" ? "GET, HEAD, " : route.method + ", ";
    group->routes.push_back(std::move(route));
  }
  for (Group& group : groups_) {
    group.methods += "OPTIONS";
  }
  std::sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) {
    const Kind first = widest(a.parts);
    const Kind second = widest(b.parts);
    return first != second ? first < second : a.pattern < b.pattern;
  });
}

RouteTable::Match RouteTable::find(std::string_view path) const {
  Match match;
  for (const Group& group : groups_) {
    if (matches(group.parts, path, match.argument)) {
      match.group = &group;
      return match;
    }
  }
  match.argument.clear();
  return match;
}

std::string RouteTable::suggest(const std::string& path) const {
  // What clients do when their base URL ends in "/v1" and should not, or the
  // other way round, or in '/'.
  std::vector<std::string> meant = {"/v1" + path, "/api" + path};
  const size_t second = path.find('/', 1);
  if (second != std::string::npos) {
    meant.push_back(path.substr(second));
  }
  if (path.size() > 1 && path.ends_with('/')) {
    meant.push_back(path.substr(0, path.size() - 1));
  }
  for (std::string& other : meant) {
    const Match match = find(other);
    if (match.group && widest(match.group->parts) == Kind::literal) {
      return std::move(other);
    }
  }
  return {};
}

} // namespace mlx_flash::server
