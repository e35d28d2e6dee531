// Tells apart what an answer consists of while it is being generated:
// reasoning, content and calls of tools.
//
// Calls are found wherever their opening mark is. Reasoning may only come
// first, before any content or call, so that a text about <think> stays a
// text; inside it nothing but its end is a mark.
//
// Thread rule: belongs to one answer.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parse/answer_form.h"
#include "parse/tool_form.h"

namespace mlx_flash::parse {

class AnswerEvents : public ToolCallEvents {
 public:
  virtual void on_reasoning(std::string_view text) = 0;
  virtual void on_content(std::string_view text) = 0;
};

class AnswerParser {
 public:
  // Marks of further calls are content.
  static constexpr size_t kMostCalls = 128;
  // White space that is held back until it is known what follows.
  static constexpr size_t kMostSpace = 256;

  // Calls are looked for if there are `tools`; without, marks are content.
  // `form` must outlive it.
  AnswerParser(
      const AnswerForm& form,
      std::span<const ToolSignature> tools,
      bool in_reasoning);
  ~AnswerParser();

  // Holds back only what may yet become a mark, and white space, which may
  // yet come before one. Around reasoning and calls it is nobody's, unless
  // there is content on both sides of a call: then it is what separates them.
  void push(std::string_view text, AnswerEvents& events);
  // The answer is over: tells what was held back.
  void finish(AnswerEvents& events);

  bool in_reasoning() const;
  // In a call that was told of, or between it and its closing mark.
  bool in_call() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A whole answer.
struct ParsedCall {
  std::string name;
  std::string arguments;
};
struct ParsedAnswer {
  std::string reasoning;
  std::string content;
  std::vector<ParsedCall> calls;
};
ParsedAnswer parse_answer(
    const AnswerForm& form,
    std::span<const ToolSignature> tools,
    bool in_reasoning,
    std::string_view text);
// Whether both say the same: texts but for white space around them, names, and
// arguments as JSON.
bool says_the_same(const ParsedAnswer& a, const ParsedAnswer& b);

} // namespace mlx_flash::parse
