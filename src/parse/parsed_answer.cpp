#include <algorithm>

#include <nlohmann/json.hpp>

#include "parse/answer_parser.h"
#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

struct Collector : AnswerEvents {
  ParsedAnswer answer;

  void on_reasoning(std::string_view text) override {
    answer.reasoning += text;
  }
  void on_content(std::string_view text) override {
    answer.content += text;
  }
  void on_call(std::string_view name) override {
    answer.calls.push_back({std::string(name), ""});
  }
  void on_arguments(std::string_view json_part) override {
    answer.calls.back().arguments += json_part;
  }
  void on_call_end() override {}
};

bool same_json(const std::string& a, const std::string& b) {
  const auto left = nlohmann::json::parse(a, nullptr, false);
  return !left.is_discarded() &&
      left == nlohmann::json::parse(b, nullptr, false);
}

} // namespace

ParsedAnswer parse_answer(
    const AnswerForm& form,
    std::span<const ToolSignature> tools,
    bool in_reasoning,
    std::string_view text) {
  Collector collector;
  AnswerParser parser(form, tools, in_reasoning);
  parser.push(text, collector);
  parser.finish(collector);
  return std::move(collector.answer);
}

bool says_the_same(const ParsedAnswer& a, const ParsedAnswer& b) {
  return trim(a.reasoning) == trim(b.reasoning) &&
      trim(a.content) == trim(b.content) &&
      std::equal(
             a.calls.begin(),
             a.calls.end(),
             b.calls.begin(),
             b.calls.end(),
             [](const ParsedCall& left, const ParsedCall& right) {
               return left.name == right.name &&
                   same_json(left.arguments, right.arguments);
             });
}

} // namespace mlx_flash::parse
