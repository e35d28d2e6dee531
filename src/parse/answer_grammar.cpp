#include "parse/answer_grammar.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "parse/answer_parser.h"
#include "parse/lark.h"
#include "parse/schema.h"

namespace mlx_flash::parse {

namespace {

using Calls = AnswerWishes::Calls;
using Content = AnswerWishes::Content;

// Rules are collected as they are needed: llguidance takes one that nothing
// names, but reads it all the same.
class GrammarWriter {
 public:
  GrammarWriter(const AnswerForm& form, const AnswerWishes& wishes)
      : form_(form),
        wishes_(wishes),
        calls_(
            form.tools == nullptr || wishes.tools.empty() ? Calls::none
                                                          : wishes.calls) {}

  std::string write() {
    if (!is_needed()) {
      return "";
    }
    const std::string start = answer();
    return "start: " + start + "\n" + rules_;
  }

 private:
  bool is_needed() const {
    const bool strict = std::any_of(
        wishes_.tools.begin(), wishes_.tools.end(), [](const auto& tool) {
          return tool.strict;
        });
    return wishes_.content != Content::any || calls_ == Calls::required ||
        calls_ == Calls::forbidden ||
        (calls_ == Calls::allowed && (strict || !wishes_.parallel_calls));
  }

  std::string answer() {
    const bool any = wishes_.content == Content::any;
    if (any && calls_ == Calls::forbidden) {
      return text_alone();
    }
    return any && calls_ == Calls::allowed ? free_answer() : limited_answer();
  }

  // Reasoning included, in which a mark would mean nothing.
  std::string text_alone() {
    rules_ += fmt::format("TEXT: {}\n", lark_text_without({call_anywhere()}));
    return "TEXT?";
  }

  // Text in which calls may begin anywhere, and reasoning where AnswerParser
  // sees it begin. Each piece of it has only one reading, so that the lexer
  // never has to choose.
  std::string free_answer() {
    rules_ += call_rules();
    rules_ += fmt::format(
        "TEXT: {}\nTO_CALL: (TEXT) {}\n",
        lark_text_without({call_anywhere()}),
        opening());
    if (form_.think_open.empty()) {
      return answer_of("TEXT", "TO_CALL");
    }
    rules_ += thought_rules();
    rules_ += fmt::format(
        "TO_THOUGHT: /{0}/ {1}\nFIRST: TEXT & ~/{0}{2}(?s:.*)/\n"
        "FIRST_TO_CALL: (FIRST) {3}\n",
        fmt::format("[ \\n\\r\\t]{{0,{}}}", AnswerParser::kMostSpace - 1),
        lark_string(form_.think_open),
        escape_regex(form_.think_open),
        opening());
    // The answer may end within its reasoning.
    const std::string answer =
        "(TO_THOUGHT THOUGHT_END)* (TO_THOUGHT THOUGHT?"
        " | " +
        answer_of("FIRST", "FIRST_TO_CALL") + ")";
    return wishes_.in_reasoning ? "THOUGHT_END " + answer + " | THOUGHT?"
                                : answer;
  }

  // `text` and `to_call` are those before the first call.
  std::string answer_of(const char* text, const char* to_call) const {
    return wishes_.parallel_calls
        ? fmt::format("{} call (TO_CALL call)* TEXT? | {}?", to_call, text)
        : fmt::format("{} call | {}?", to_call, text);
  }

  // Reasoning, and then nothing but what is asked for.
  std::string limited_answer() {
    std::string answer = reasoning();
    std::string options;
    if (calls_ != Calls::required) {
      options = content();
    }
    if (calls_ == Calls::allowed || calls_ == Calls::required) {
      rules_ += call_rules();
      options += options.empty() ? "calls" : " | calls";
      rules_ += fmt::format("calls: {} call", opening());
      if (wishes_.parallel_calls) {
        rules_ += fmt::format(
            " ({} call){{0,{}}}",
            lark_string("\n" + std::string(form_.tools->opening_mark())),
            AnswerParser::kMostCalls - 1);
      }
      rules_ += "\n";
    }
    return answer + "(" + options + ")";
  }

  std::string reasoning() {
    if (form_.think_open.empty() ||
        (!wishes_.in_reasoning && !wishes_.may_reason)) {
      return "";
    }
    rules_ += thought_rules();
    // Blanks without a bound are what a small model writes for ever.
    rules_ += "SPACE: /\\n{1,2}/\n";
    return wishes_.in_reasoning
        ? "THOUGHT_END SPACE? "
        : fmt::format(
              "({} THOUGHT_END SPACE?)? ", lark_string(form_.think_open));
  }

  std::string thought_rules() const {
    return fmt::format(
        "THOUGHT: {}\nTHOUGHT_END: (THOUGHT) {}\n",
        lark_text_without({"(?s:.*)" + escape_regex(form_.think_close)}),
        lark_string(form_.think_close));
  }

  std::string call_anywhere() const {
    return "(?s:.*)" + escape_regex(form_.tools->opening_mark());
  }

  std::string opening() const {
    return lark_string(form_.tools->opening_mark());
  }

  std::string call_rules() const {
    return form_.tools->grammar("call", wishes_.tools);
  }

  std::string content() {
    switch (wishes_.content) {
      case Content::json_schema:
        rules_ += fmt::format(
            "content: {}\n",
            lark_json(
                parse_schema(wishes_.source, "[grammar] the JSON schema")));
        return "content";
      case Content::regex:
        return lark_regex(wishes_.source);
      case Content::lark:
        rules_ += fmt::format("content: %lark {{\n{}\n}}\n", wishes_.source);
        return "content";
      case Content::any:
        break;
    }
    return "";
  }

  const AnswerForm& form_;
  const AnswerWishes& wishes_;
  const Calls calls_;
  std::string rules_;
};

} // namespace

std::string answer_grammar(const AnswerForm& form, const AnswerWishes& wishes) {
  return GrammarWriter(form, wishes).write();
}

} // namespace mlx_flash::parse
