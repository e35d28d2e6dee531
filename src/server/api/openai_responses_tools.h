// Tools of OpenAI's Responses API: functions, by themselves or in namespaces,
// and which of them an answer may call. What OpenAI's service would run itself
// is refused by name.
//
// Thread rule: pure functions. All throw ApiError(invalid_request) that names
// the field.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/fields.h"
#include "server/job.h"
#include "server/server_options.h"

namespace mlx_flash::server {

struct NamespacedName {
  std::string name_space;
  std::string name;
};

struct ResponseTools {
  std::vector<Tool> tools;
  // Of those in namespaces, by what the model knows them as.
  std::map<std::string, NamespacedName> namespaced;
};

// The fields "tools", "tool_choice" and "parallel_tool_calls". `echo` is given
// what a Response object says of them. Tools that the choice does not allow are
// left out, so that the model does not know them.
ResponseTools read_response_tools(
    Fields& body,
    const ServerLimits& limits,
    nlohmann::ordered_json& echo);
ToolChoice read_response_tool_choice(
    Fields& body,
    ResponseTools& tools,
    nlohmann::ordered_json& echo);

// Whether a schema is one that strict functions of OpenAI's may have: every
// object closed and all of its properties required, and nothing but common
// keywords. Functions that do not say whether they are strict are, if so.
bool is_strict_schema(const nlohmann::ordered_json& schema);

} // namespace mlx_flash::server
