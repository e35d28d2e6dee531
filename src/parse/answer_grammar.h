// Grammars for whole answers (Lark, as llguidance reads it): what a request
// asks for, put together from the model's form. What they let through,
// AnswerParser tells apart in the same way.
//
// Marks are written as text. That fits tokenizers that have a token for a mark
// and those that spell it, because grammars are about bytes; but a mark that is
// a tokenizer's special token has no text, neither here nor for AnswerParser,
// and is spelled.
//
// Thread rule: a pure function.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "parse/answer_form.h"
#include "parse/tool_form.h"

namespace mlx_flash::parse {

struct AnswerWishes {
  // Text that is not a call.
  enum class Content {
    any,
    json_schema, // `source`: JSON that the schema allows
    regex, // `source`: a match
    lark, // `source`: of the start rule of a Lark grammar
  };
  Content content = Content::any;
  std::string source{};

  std::span<const ToolSignature> tools{};
  enum class Calls {
    none,
    // None begins in content that is any. Other content is what it asks for.
    forbidden,
    // Calls and any content around them; or instead of content that is not
    // any.
    allowed,
    required, // calls alone; reasoning may come before
  };
  Calls calls = Calls::none;
  bool parallel_calls = true; // else one at most, which ends the answer
  bool in_reasoning = false; // the answer begins inside reasoning
  bool may_reason = false; // it may begin with reasoning of its own
};

// Empty where any text will do. Throws Error(invalid_argument) for a schema
// that is none, or that the form cannot hold a strict tool's calls to.
std::string answer_grammar(const AnswerForm& form, const AnswerWishes& wishes);

} // namespace mlx_flash::parse
