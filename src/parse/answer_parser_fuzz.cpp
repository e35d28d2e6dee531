// Any bytes as an answer, in each form. However the text is cut, the events are
// the same; whatever was told of a call's arguments is an object once the call
// has ended; and every call that was told ends, also where the text is cut off.
// Seeds are in tests/data/fuzz/answer_parser_fuzz.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "parse/answer_parser.h"
#include "parse/test_answers.h"

using namespace mlx_flash::parse;

namespace {

const std::vector<ToolSignature> kTools = {
    {"f",
     R"({"properties": {"s": {"type": "string"}, "i": {"type": "integer"},
         "o": {"type": "object"}, "sn": {"type": ["string", "null"]}}})"}};

// Aborts where calls do not begin and end in turn, or arguments are no object.
class StrictLog : public EventLog {
 public:
  void on_call(std::string_view name) override {
    require(!in_call_ && !name.empty());
    in_call_ = true;
    EventLog::on_call(name);
  }
  void on_arguments(std::string_view json_part) override {
    require(in_call_ && !json_part.empty());
    EventLog::on_arguments(json_part);
  }
  void on_call_end() override {
    require(in_call_);
    in_call_ = false;
    EventLog::on_call_end();
    require(
        nlohmann::json::parse(arguments().back(), nullptr, false).is_object());
  }
  void on_reasoning(std::string_view text) override {
    require(!in_call_ && !text.empty());
    EventLog::on_reasoning(text);
  }
  void on_content(std::string_view text) override {
    require(!in_call_ && !text.empty());
    EventLog::on_content(text);
  }
  std::string end() {
    require(!in_call_);
    return text();
  }
  static void require(bool condition) {
    if (!condition) {
      std::abort();
    }
  }

 private:
  bool in_call_ = false;
};

std::string read(
    const AnswerForm& form,
    bool in_reasoning,
    std::string_view text,
    size_t piece) {
  StrictLog log;
  AnswerParser parser(form, kTools, in_reasoning);
  for (size_t at = 0; at < text.size(); at += piece) {
    parser.push(text.substr(at, piece), log);
  }
  parser.finish(log);
  return log.end();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string_view text(
      reinterpret_cast<const char*>(data) + 2, size - 2);
  const bool in_reasoning = data[0] & 1;
  for (const ToolForm* tools : tool_forms()) {
    const AnswerForm form{"<think>", "</think>", tools};
    const std::string whole = read(form, in_reasoning, text, text.size() + 1);
    StrictLog::require(
        whole == read(form, in_reasoning, text, 1) &&
        whole == read(form, in_reasoning, text, 1 + data[1] % 32u));
    read(form, in_reasoning, text.substr(0, text.size() * data[1] / 256), 7);
  }
  return 0;
}
