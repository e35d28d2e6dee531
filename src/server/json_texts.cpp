#include "server/json_texts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/api_error.h"
#include "server/server_options.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

[[noreturn]] void refuse(const std::string& field, const std::string& why) {
  if (field.empty()) {
    throw ApiError(ApiErrorKind::invalid_request, "the body " + why);
  }
  throw invalid_field(field, field + " " + why);
}

// Counts while nlohmann's parser goes along, before `Base` builds anything.
template <typename Base>
class Limited : public Base {
 public:
  template <typename... Arguments>
  Limited(
      const JsonLimits& limits,
      size_t& values,
      const std::string& field,
      Arguments&&... arguments)
      : Base(std::forward<Arguments>(arguments)...),
        limits_(limits),
        values_(values),
        field_(field) {}

  bool null() {
    count("null");
    return Base::null();
  }
  bool boolean(bool value) {
    count("boolean");
    return Base::boolean(value);
  }
  bool number_integer(int64_t value) {
    count("number");
    return Base::number_integer(value);
  }
  bool number_unsigned(uint64_t value) {
    count("number");
    return Base::number_unsigned(value);
  }
  bool number_float(double value, const std::string& text) {
    count("number");
    return Base::number_float(value, text);
  }
  bool string(std::string& value) {
    count("string");
    return Base::string(value);
  }
  bool start_object(size_t size) {
    enter("object");
    return Base::start_object(size);
  }
  bool key(std::string& name) {
    if (++members_.back() > limits_.members) {
      refuse(
          field_,
          fmt::format(
              "has an object of more than {} members; send fewer",
              limits_.members));
    }
    add_value();
    return Base::key(name);
  }
  bool end_object() {
    members_.pop_back();
    return Base::end_object();
  }
  bool start_array(size_t size) {
    enter("array");
    return Base::start_array(size);
  }
  bool end_array() {
    members_.pop_back();
    return Base::end_array();
  }
  bool parse_error(size_t, const std::string&, const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string what = error.what();
    const size_t place = what.find("parse error");
    what = place == std::string::npos ? what : what.substr(place);
    refuse(field_, "is not JSON: " + what.substr(0, 300));
  }

 private:
  void count(const char* kind) {
    if (members_.empty() && kind != std::string_view("object")) {
      refuse(
          field_,
          fmt::format(
              "must {} a JSON object, not {}",
              field_.empty() ? "be" : "hold",
              kind));
    }
    add_value();
  }
  void add_value() {
    if (++values_ > limits_.values) {
      refuse(
          field_,
          fmt::format(
              "has more JSON values than the {} that a request may have; send "
              "fewer, or start the server with a larger --max-json-values",
              limits_.values));
    }
  }
  void enter(const char* kind) {
    count(kind);
    members_.push_back(0);
    if (members_.size() > limits_.depth) {
      refuse(
          field_, fmt::format("has JSON nested deeper than {}", limits_.depth));
    }
  }

  const JsonLimits& limits_;
  size_t& values_;
  const std::string& field_;
  // Of the objects that have begun and not ended; arrays have none.
  std::vector<size_t> members_;
};

using Builder = Limited<nlohmann::detail::json_sax_dom_parser<Json>>;
using Checker = Limited<nlohmann::detail::json_sax_acceptor<Json>>;

} // namespace

JsonLimits json_limits(const ServerLimits& limits) {
  return {limits.json_depth, limits.json_values};
}

Json JsonTexts::parse(std::string_view text, const std::string& field) {
  Json root;
  Builder builder(limits_, values_, field, root, true);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return root;
}

void JsonTexts::check(std::string_view text, const std::string& field) {
  Checker checker(limits_, values_, field);
  Json::sax_parse(text.begin(), text.end(), &checker);
}

Json parse_body(std::string_view text, const JsonLimits& limits) {
  return JsonTexts(limits).parse(text, "");
}

} // namespace mlx_flash::server
