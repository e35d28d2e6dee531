#include "parse/answer_form.h"

#include "parse/space.h"

namespace mlx_flash::parse {

AnswerForm find_answer_form(std::string_view chat_template) {
  AnswerForm form;
  // Each template of a model that reasons takes earlier reasoning out of the
  // conversation, for which it has to know where that ends.
  if (chat_template.find("</think>") != std::string_view::npos) {
    form.think_open = "<think>";
    form.think_close = "</think>";
  }
  form.tools = find_tool_form(chat_template);
  return form;
}

bool begins_in_reasoning(const AnswerForm& form, std::string_view prompt) {
  const size_t last = prompt.find_last_not_of(kSpaces);
  return !form.think_open.empty() && last != std::string_view::npos &&
      prompt.substr(0, last + 1).ends_with(form.think_open);
}

} // namespace mlx_flash::parse
