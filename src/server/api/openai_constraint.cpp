// What an answer has to look like: read_constraint() of openai_fields.h.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/api/lark_operators.h"
#include "server/api/openai_fields.h"
#include "server/api_error.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAnyObject = "{\"type\":\"object\"}";

// So that it matches itself alone.
std::string escaped(const std::string& text) {
  std::string regex;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~/").find(c) !=
        std::string_view::npos) {
      regex += '\\';
    }
    regex += c;
  }
  return regex;
}

// Of the many fields that can ask for one, which the request has.
class ConstraintReader {
 public:
  explicit ConstraintReader(const ServerLimits& limits) : limits_(limits) {}

  void read_json_schema(Fields& fields, const char* field) {
    const Json* value = fields.value(field);
    if (!value) {
      return;
    }
    if (value->is_object()) {
      take_schema(fields.path(field), *value);
      return;
    }
    take_schema(fields.path(field), read_json_text(fields, field));
  }

  void read_source(Fields& fields, const char* field, Constraint::Kind kind) {
    if (const auto source = fields.text(field, limits_.schema_bytes)) {
      if (source->empty()) {
        fields.reject(field, "must not be empty");
      }
      if (kind == Constraint::Kind::lark && has_set_operators(*source)) {
        fields.reject(
            field, "has terminals with & or ~, which are not supported");
      }
      take(fields.path(field), {kind, *source});
    }
  }

  void read_choice(Fields& fields, const char* field) {
    const auto choices =
        fields.texts(field, limits_.schema_bytes, limits_.schema_bytes);
    if (!choices) {
      return;
    }
    std::string regex;
    for (const std::string& each : *choices) {
      regex += (regex.empty() ? "(" : "|(") + escaped(each) + ")";
    }
    if (regex.empty() || regex.size() > limits_.schema_bytes) {
      fields.reject(
          field,
          fmt::format(
              "must have one entry at least, and {} bytes in all at most",
              limits_.schema_bytes));
    }
    take(fields.path(field), {Constraint::Kind::regex, std::move(regex)});
  }

  void read_response_format(Fields& fields) {
    const Json* value = fields.object("response_format");
    if (!value) {
      return;
    }
    const std::string path = fields.path("response_format");
    Fields format(*value, path);
    const auto type =
        format.word("type", {"text", "json_object", "json_schema"});
    if (!type) {
      format.reject("type", "is missing");
    }
    if (*type == "json_schema") {
      read_named_schema(format);
    } else if (*type == "json_object") {
      // llama.cpp's form has a schema beside the type.
      const Json* schema = format.object("schema");
      take_schema(path, schema ? *schema : Json::parse(kAnyObject));
    }
    format.done();
  }

  void read_structured_outputs(Fields& fields) {
    const Json* value = fields.object("structured_outputs");
    if (!value) {
      return;
    }
    Fields outputs(*value, fields.path("structured_outputs"));
    read_json_schema(outputs, "json");
    read_source(outputs, "regex", Constraint::Kind::regex);
    read_source(outputs, "grammar", Constraint::Kind::lark);
    read_choice(outputs, "choice");
    if (outputs.boolean("json_object").value_or(false)) {
      take(
          outputs.path("json_object"),
          {Constraint::Kind::json_schema, kAnyObject});
    }
    outputs.done();
  }

  void give(Job& job) && {
    job.constraint = std::move(constraint_);
    job.constraint_field = std::move(taken_);
  }

 private:
  // vLLM takes JSON text for a schema too.
  Json read_json_text(Fields& fields, const char* field) {
    const auto text = fields.text(field, limits_.schema_bytes);
    try {
      return parse_body(*text, json_limits(limits_));
    } catch (const ApiError&) {
      fields.reject(field, "must be a JSON schema");
    }
  }

  // {"name", "description", "schema", "strict"}. The schema is kept to whether
  // it is strict or not: a client that sends one wants it to hold.
  void read_named_schema(Fields& format) {
    const Json* value = format.object("json_schema");
    if (!value) {
      format.reject("json_schema", "is missing");
    }
    const std::string path = format.path("json_schema");
    Fields named(*value, path);
    named.required_text("name", kMostNameBytes);
    named.text("description", limits_.schema_bytes);
    named.boolean("strict");
    const Json* schema = named.object("schema");
    named.done();
    take_schema(
        schema ? path + ".schema" : path,
        schema ? *schema : Json::parse(kAnyObject));
  }

  void take_schema(const std::string& path, const Json& schema) {
    take(
        path,
        {Constraint::Kind::json_schema, schema_text(schema, path, limits_)});
  }

  void take(const std::string& path, Constraint constraint) {
    if (!taken_.empty()) {
      throw invalid_field(
          path, fmt::format("{} cannot be asked for beside {}", path, taken_));
    }
    taken_ = path;
    constraint_ = std::move(constraint);
  }

  const ServerLimits& limits_;
  std::string taken_; // the field that it came from
  Constraint constraint_;
};

} // namespace

void read_constraint(Fields& fields, const ServerLimits& limits, Job& job) {
  using Kind = Constraint::Kind;
  ConstraintReader reader(limits);
  reader.read_response_format(fields);
  reader.read_json_schema(fields, "guided_json");
  reader.read_json_schema(fields, "json_schema");
  reader.read_source(fields, "guided_regex", Kind::regex);
  reader.read_source(fields, "regex", Kind::regex);
  reader.read_source(fields, "guided_grammar", Kind::lark);
  reader.read_source(fields, "grammar", Kind::lark);
  reader.read_choice(fields, "guided_choice");
  reader.read_structured_outputs(fields);
  std::move(reader).give(job);
}

} // namespace mlx_flash::server
