#include "server/schema_text.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

// The field that is named as wrong, and in the message too; empty if none is.
std::string wrong(const Json& schema, const ServerLimits& limits = {}) {
  try {
    schema_text(schema, "f", limits);
    return "";
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    CHECK(std::string(error.what()).find(error.param) == 0);
    return error.param;
  }
}

Json nested(int levels) {
  Json schema = Json::object();
  for (int i = 1; i < levels; ++i) {
    schema = Json{{"items", std::move(schema)}};
  }
  return schema;
}

} // namespace

TEST_CASE("schema: its text keeps the order of its properties") {
  const char* text = R"({"properties":{"z":{},"a":{}}})";
  CHECK(schema_text(Json::parse(text), "f", {}) == text);
}

TEST_CASE("schema: one that is too long is named") {
  const Json schema = {{"type", "string"}};
  ServerLimits limits;
  limits.schema_bytes = schema.dump().size();
  CHECK(wrong(schema, limits) == "");
  limits.schema_bytes -= 1;
  CHECK(wrong(schema, limits) == "f");
}

TEST_CASE("schema: one that is nested too deep is named") {
  CHECK(wrong(nested(100)) == "");
  CHECK(wrong(nested(101)) == "f");
}

TEST_CASE("schema: options of the compiler cannot be set") {
  CHECK(wrong(Json::parse(R"({"x-guidance": {}})")) == "f.x-guidance");
  CHECK(wrong(Json::parse(R"({"x-guidance": null})")) == "f.x-guidance");
  // A property may be called so.
  CHECK(wrong(Json::parse(R"({"properties": {"x-guidance": {}}})")) == "");
}
