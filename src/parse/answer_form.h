// How a model writes answers, found in its own chat template.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "parse/tool_form.h"

namespace mlx_flash::parse {

struct AnswerForm {
  // What encloses reasoning; empty for a model that does not reason.
  std::string think_open{};
  std::string think_close{};
  const ToolForm* tools = nullptr; // null: it was not taught any
};

AnswerForm find_answer_form(std::string_view chat_template);

// Whether an answer to this prompt begins inside reasoning: the template has
// opened it at the prompt's end.
bool begins_in_reasoning(const AnswerForm& form, std::string_view prompt);

} // namespace mlx_flash::parse
