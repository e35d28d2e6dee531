// Bodies as clients send them, shortened: they must be understood as they are.
#include <doctest/doctest.h>

#include "server/api/ollama_request.h"
#include "server/api/test_ollama.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

OllamaRequest chat(const Json& body) {
  return read_ollama_chat(body, ServerLimits{});
}

const Conversation& conversation(const OllamaRequest& request) {
  return std::get<Conversation>(request.job.prompt);
}

} // namespace

TEST_CASE("ollama: bodies as the official client writes them") {
  const Json body = Json::parse(R"({"model": "m", "stream": true,
      "options": {"num_predict": 5, "stop": ["x"]}, "keep_alive": "5m",
      "messages": [{"role": "user", "content": "hi"},
          {"role": "assistant", "tool_calls": [
              {"function": {"name": "f", "arguments": {"city": "x"}}}]},
          {"role": "tool", "tool_name": "f"}],
      "tools": [{"type": "function", "function": {"name": "f",
          "description": "Tells the weather.", "parameters":
          {"type": "object", "required": ["city"], "properties":
              {"city": {"type": "string", "description": "which"}}}}}],
      "think": true, "logprobs": true, "top_logprobs": 2})");
  const OllamaRequest request = chat(body);
  CHECK(conversation(request).messages.size() == 3);
  CHECK(
      read_ollama_generate(
          Json::parse(
              R"({"model": "m", "stream": false, "keep_alive": 0.0,
                  "prompt": "x"})"),
          ServerLimits{})
          .job.keep_seconds == 0);
}

TEST_CASE("ollama: bodies as Open WebUI writes them") {
  const Json body = Json::parse(R"({"model": "m:latest", "stream": true,
      "messages": [
          {"role": "user", "content": "hi"},
          {"role": "assistant", "content": "", "tool_calls": [
              {"index": 0, "id": "c", "function":
                  {"name": "f", "arguments": {}}}]},
          {"role": "tool", "content": "11", "tool_call_id": "c"}],
      "options": {"temperature": 0.7, "mirostat": 0, "mirostat_eta": 0.1,
          "mirostat_tau": 5, "num_batch": 512, "num_keep": 24,
          "num_predict": -2, "repeat_last_n": 64, "use_mmap": true,
          "use_mlock": false, "low_vram": false, "vocab_only": false,
          "numa": false},
      "keep_alive": "30m", "think": false})");
  const OllamaRequest request = chat(body);
  CHECK(conversation(request).messages[2].tool_call_id == "c");
}

TEST_CASE("ollama: bodies as continue.dev and Zed write them") {
  const Json continued = Json::parse(R"({"model": "m", "messages": [
          {"role": "user", "content": "hi"}],
      "options": {"temperature": 0.5, "num_predict": 4096, "stop": [],
          "num_ctx": 8192, "use_mmap": true},
      "keep_alive": 1800, "stream": true})");
  CHECK(chat(continued).context == 8192u);
  const Json zed = Json::parse(R"({"model": "m", "messages": [
          {"role": "system", "content": "x"},
          {"role": "assistant", "content": "", "tool_calls": null,
           "thinking": null},
          {"role": "tool", "tool_name": "f", "content": "y"}],
      "stream": true, "keep_alive": -1, "tools": [], "think": null,
      "options": {"num_ctx": 4096, "num_predict": -1, "stop": [],
          "temperature": 1.0, "top_p": null}})");
  CHECK(chat(zed).job.keep_seconds == -1);
}
