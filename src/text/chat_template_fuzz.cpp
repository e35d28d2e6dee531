// Any bytes as a chat template: it renders a conversation, or is an Error.
// Seeds are in tests/data/fuzz/chat_template_fuzz.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

namespace {

constexpr std::string_view kContext = R"({
  "messages": [
    {"role": "system", "content": "You are."},
    {"role": "user", "content": [{"type": "text", "text": "Hi <é>"}]},
    {"role": "assistant", "content": null, "tool_calls": [
      {"function": {"name": "f", "arguments": {"a": 1.5, "b": [true, null]}}}]},
    {"role": "tool", "content": "{}"}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "properties": {"a": {"type": "number"}}}}}],
  "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})";

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try {
    const auto chat = mlx_flash::ChatTemplate::from_source(source, "fuzz");
    (void)chat.render(kContext, 1753531200);
  } catch (const mlx_flash::Error&) {
  }
  return 0;
}
