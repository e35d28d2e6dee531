// Any bytes as the schema of a strict tool and as a chat template: a grammar,
// or an Error. Seeds are in tests/data/fuzz/answer_grammar_fuzz.
#include <cstddef>
#include <cstdint>

#include "mlx_flash/error.h"
#include "parse/answer_grammar.h"

using namespace mlx_flash::parse;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)find_answer_form(text);
  const std::vector<ToolSignature> tools = {{"f", std::string(text), true}};
  for (const ToolForm* form : tool_forms()) {
    try {
      AnswerWishes wishes;
      wishes.content = AnswerWishes::Content::json_schema;
      wishes.source = text;
      wishes.tools = tools;
      wishes.calls = AnswerWishes::Calls::allowed;
      (void)answer_grammar({"<think>", "</think>", form}, wishes);
    } catch (const mlx_flash::Error&) {
    }
  }
  return 0;
}
