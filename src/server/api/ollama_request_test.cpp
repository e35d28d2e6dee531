#include "server/api/ollama_request.h"

#include <doctest/doctest.h>

#include "server/api/test_ollama.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

// A body with `more` fields, such as R"("raw": true)".
Json body_with(const std::string& base, const std::string& more) {
  return Json::parse("{" + base + (more.empty() ? "" : "," + more) + "}");
}

OllamaRequest generate(const std::string& more = {}) {
  return read_ollama_generate(
      body_with(R"("model": "m", "prompt": "Why?")", more), ServerLimits{});
}
std::string generate_wrong(const std::string& more) {
  return field_of([&] { generate(more); });
}

OllamaRequest chat(const std::string& more = {}) {
  return read_ollama_chat(
      body_with(
          R"("model": "m", "messages": [{"role": "user", "content": "Hi"}])",
          more),
      ServerLimits{});
}
std::string chat_wrong(const std::string& more) {
  return field_of([&] { chat(more); });
}

OllamaRequest chat_of(const std::string& messages) {
  return read_ollama_chat(
      Json::parse(R"({"model": "m", "messages": )" + messages + "}"),
      ServerLimits{});
}
std::string message_wrong(const std::string& message) {
  return field_of([&] { chat_of("[" + message + "]"); });
}

const Conversation& conversation(const OllamaRequest& request) {
  return std::get<Conversation>(request.job.prompt);
}

} // namespace

TEST_CASE("ollama generate: a prompt is what a user says, and streams") {
  const OllamaRequest request = generate();
  CHECK(request.kind == OllamaKind::generate);
  CHECK(request.model == "m");
  CHECK(request.stream);
  CHECK(!request.load_only);
  CHECK(!request.must_think);
  CHECK(!request.must_call);
  REQUIRE(conversation(request).messages.size() == 1);
  CHECK(conversation(request).messages[0].role == "user");
  CHECK(conversation(request).messages[0].content == "Why?");
  CHECK(!conversation(request).thinking);
  CHECK(!generate(R"("stream": false)").stream);
}

TEST_CASE("ollama generate: a system prompt comes first") {
  const OllamaRequest request = generate(R"("system": "Be brief.")");
  REQUIRE(conversation(request).messages.size() == 2);
  CHECK(conversation(request).messages[0].role == "system");
  CHECK(conversation(request).messages[0].content == "Be brief.");
  CHECK(conversation(generate(R"("system": "")")).messages.size() == 1);
}

TEST_CASE("ollama generate: a raw prompt is taken as it is") {
  const OllamaRequest request = generate(R"("raw": true)");
  CHECK(std::get<std::string>(request.job.prompt) == "Why?");
  CHECK(generate_wrong(R"("raw": true, "system": "x")") == "system");
  CHECK(generate_wrong(R"("raw": true, "think": true)") == "think");
  CHECK(generate_wrong(R"("raw": true, "think": false)") == "none");
}

TEST_CASE("ollama generate: without a prompt only the model is loaded") {
  const auto empty = [](const std::string& text) {
    return read_ollama_generate(Json::parse(text), ServerLimits{});
  };
  CHECK(empty(R"({"model": "m"})").load_only);
  CHECK(empty(R"({"model": "m", "prompt": ""})").load_only);
  const auto unload = empty(R"({"model": "m", "keep_alive": 0})");
  CHECK(unload.load_only);
  CHECK(unload.job.keep_seconds == 0);
}

TEST_CASE("ollama: thinking is wanted, not wanted or left to the model") {
  const OllamaRequest yes = chat(R"("think": true)");
  CHECK(conversation(yes).thinking == true);
  CHECK(yes.must_think);
  const OllamaRequest no = chat(R"("think": false)");
  CHECK(conversation(no).thinking == false);
  CHECK(!no.must_think);
  const OllamaRequest level = generate(R"("think": "low")");
  CHECK(conversation(level).thinking == true);
  CHECK(conversation(level).template_values == R"({"reasoning_effort":"low"})");
}

TEST_CASE("ollama: options, format and keep_alive reach the job") {
  const OllamaRequest request = chat(R"(
      "options": {"temperature": 0, "num_predict": 7, "stop": "x",
                  "num_ctx": 512},
      "format": "json", "keep_alive": "5m",
      "logprobs": true, "top_logprobs": 3)");
  CHECK(request.job.sampling.temperature == 0);
  CHECK(request.job.max_tokens == 7u);
  CHECK(request.job.stop_strings == std::vector<std::string>{"x"});
  CHECK(request.context == 512u);
  CHECK(request.job.constraint.kind == Constraint::Kind::json_schema);
  CHECK(request.job.constraint_field == "format");
  CHECK(request.job.keep_seconds == 300);
  CHECK(request.job.logprobs);
  CHECK(request.job.top_logprobs == 3);
}

TEST_CASE("ollama: log-probabilities are bounded") {
  CHECK(
      chat_wrong(R"("logprobs": true, "top_logprobs": 21)") == "top_logprobs");
  CHECK(
      chat_wrong(R"("logprobs": true, "top_logprobs": -1)") == "top_logprobs");
  CHECK(chat_wrong(R"("top_logprobs": 1)") == "top_logprobs");
  CHECK(chat_wrong(R"("top_logprobs": 0)") == "none");
}

TEST_CASE("ollama generate: what cannot be honoured is refused by name") {
  CHECK(generate_wrong(R"("template": "{{ .Prompt }}")") == "template");
  CHECK(generate_wrong(R"("suffix": "return")") == "suffix");
  CHECK(generate_wrong(R"("images": ["aGk="])") == "images");
  CHECK(generate_wrong(R"("context": [1, 2])") == "context");
  CHECK(generate_wrong(R"("truncate": true)") == "truncate");
  CHECK(generate_wrong(R"("shift": true)") == "shift");
  CHECK(
      generate_wrong(R"("_debug_render_only": true)") == "_debug_render_only");
  CHECK(generate_wrong(R"("width": 512)") == "width");
  CHECK(generate_wrong(R"("promt": "x")") == "promt");
  // As clients write what they do not want.
  CHECK(generate_wrong(R"("template": "", "suffix": "", "images": [],
          "context": [], "truncate": false, "shift": false, "format": "",
          "options": {}, "keep_alive": null, "think": null,
          "system": null, "raw": null)") == "none");
}

TEST_CASE("ollama: types are checked") {
  const auto wrong = [](const std::string& body) {
    return field_of(
        [&] { read_ollama_generate(Json::parse(body), ServerLimits{}); });
  };
  CHECK(wrong(R"({"prompt": "x"})") == "model");
  CHECK(wrong(R"({"model": ""})") == "model");
  CHECK(wrong(R"({"model": 3})") == "model");
  CHECK(wrong(R"({"model": "m", "prompt": ["x"]})") == "prompt");
  CHECK(generate_wrong(R"("stream": "yes")") == "stream");
  CHECK(generate_wrong(R"("raw": 1)") == "raw");
  CHECK(generate_wrong(R"("logprobs": 2)") == "logprobs");
  CHECK(wrong(R"({"model": ")" + std::string(513, 'm') + "\"}") == "model");
}

TEST_CASE("ollama chat: messages of all roles") {
  const OllamaRequest request = chat_of(R"([
      {"role": "system", "content": "Be brief."},
      {"role": "User", "content": "Weather?", "images": null},
      {"role": "assistant", "thinking": "I need a tool.", "tool_calls": [
          {"id": "call_1", "type": "function", "index": 0, "function":
           {"index": 0, "name": "weather", "arguments": {"b": 1, "a": "x"}}}]},
      {"role": "tool", "content": "11 degrees", "tool_name": "weather",
       "tool_call_id": "call_1"}])");
  const auto& messages = conversation(request).messages;
  REQUIRE(messages.size() == 4);
  CHECK(messages[0].role == "system");
  CHECK(messages[1].role == "user");
  CHECK(messages[1].content == "Weather?");
  CHECK(messages[2].role == "assistant");
  CHECK(messages[2].content.empty());
  CHECK(messages[2].reasoning == "I need a tool.");
  REQUIRE(messages[2].tool_calls.size() == 1);
  CHECK(messages[2].tool_calls[0].id == "call_1");
  CHECK(messages[2].tool_calls[0].name == "weather");
  // As the model wrote them, for its prompt to be the same again.
  CHECK(messages[2].tool_calls[0].arguments == R"({"b":1,"a":"x"})");
  CHECK(messages[3].role == "tool");
  CHECK(messages[3].content == "11 degrees");
  CHECK(messages[3].name == "weather");
  CHECK(messages[3].tool_call_id == "call_1");
}

TEST_CASE("ollama chat: a call may lack id and arguments") {
  const OllamaRequest request = chat_of(R"([
      {"role": "assistant", "content": "", "tool_calls": [
          {"id": null, "function": {"name": "now"}}]},
      {"role": "tool", "content": "12:00"}])");
  const ToolCall& call = conversation(request).messages[0].tool_calls.at(0);
  CHECK(call.id.empty());
  CHECK(call.arguments == "{}");
}

TEST_CASE("ollama chat: mistakes in messages are named with their place") {
  CHECK(message_wrong(R"({"content": "x"})") == "messages[0].role");
  CHECK(
      message_wrong(R"({"role": "developer", "content": "x"})") ==
      "messages[0].role");
  CHECK(
      message_wrong(R"({"role": "user", "content": [{"type": "text"}]})") ==
      "messages[0].content");
  CHECK(
      message_wrong(R"({"role": "user", "content": "", "images": ["aGk="]})") ==
      "messages[0].images");
  CHECK(
      message_wrong(R"({"role": "user", "content": "", "name": "Bob"})") ==
      "messages[0].name");
  CHECK(message_wrong("3") == "messages[0]");
  CHECK(field_of([] {
          chat_of(R"([{"role": "user"}, {"role": 1}])");
        }) == "messages[1].role");
  CHECK(field_of([] { chat_of("{}"); }) == "messages");
}

TEST_CASE("ollama chat: an answer that the request begins is refused") {
  CHECK(
      message_wrong(R"({"role": "assistant", "content": "Once"})") ==
      "messages");
}

TEST_CASE("ollama chat: fields of another role's messages are refused") {
  CHECK(
      message_wrong(R"({"role": "user", "thinking": "x"})") ==
      "messages[0].thinking");
  CHECK(
      message_wrong(
          R"({"role": "user", "tool_calls": [{"function": {"name": "f"}}]})") ==
      "messages[0].tool_calls");
  CHECK(
      message_wrong(R"({"role": "assistant", "tool_name": "f"})") ==
      "messages[0].tool_name");
  CHECK(
      message_wrong(R"({"role": "system", "tool_call_id": "c"})") ==
      "messages[0].tool_call_id");
  // Clients write what is empty in all of them.
  CHECK(message_wrong(R"({"role": "user", "thinking": "", "tool_calls": [],
          "tool_name": "", "tool_call_id": null})") == "none");
}

TEST_CASE("ollama chat: mistakes in calls are named with their place") {
  const auto wrong = [](const std::string& call) {
    return message_wrong(
        R"({"role": "assistant", "tool_calls": [)" + call + "]}");
  };
  CHECK(wrong("{}") == "messages[0].tool_calls[0].function");
  CHECK(
      wrong(R"({"function": {}})") ==
      "messages[0].tool_calls[0].function.name");
  CHECK(
      wrong(R"({"function": {"name": ""}})") ==
      "messages[0].tool_calls[0].function.name");
  CHECK(
      wrong(R"({"function": {"name": "f", "arguments": "{}"}})") ==
      "messages[0].tool_calls[0].function.arguments");
  CHECK(
      wrong(R"({"type": "code", "function": {"name": "f"}})") ==
      "messages[0].tool_calls[0].type");
}

TEST_CASE("ollama chat: tools with names, descriptions and schemas") {
  const OllamaRequest request = chat(R"("tools": [
      {"type": "function", "function": {
          "name": "weather", "description": "Tells it",
          "parameters": {"type": "object", "properties":
              {"city": {"type": "string"}}, "required": ["city"]}}},
      {"function": {"name": "now"}}])");
  const auto& tools = conversation(request).tools;
  CHECK(request.must_call);
  REQUIRE(tools.size() == 2);
  CHECK(tools[0].name == "weather");
  CHECK(tools[0].description == "Tells it");
  CHECK(
      tools[0].parameters ==
      R"({"type":"object","properties":{"city":{"type":"string"}},)"
      R"("required":["city"]})");
  CHECK(!tools[0].strict);
  CHECK(tools[1].name == "now");
  CHECK(tools[1].parameters.empty());
  CHECK(!chat(R"("tools": [])").must_call);
}

TEST_CASE("ollama chat: mistakes in tools are named with their place") {
  CHECK(
      chat_wrong(R"("tools": [{"type": "function"}])") == "tools[0].function");
  CHECK(chat_wrong(R"("tools": [{"type": "x"}])") == "tools[0].type");
  CHECK(
      chat_wrong(R"("tools": [{"function": {"description": "x"}}])") ==
      "tools[0].function.name");
  CHECK(
      chat_wrong(
          R"("tools": [{"function": {"name": "f", "parameters": []}}])") ==
      "tools[0].function.parameters");
  CHECK(
      chat_wrong(R"("tools": [{"function": {"name": "f",
          "parameters": {"x-guidance": {}}}}])") ==
      "tools[0].function.parameters.x-guidance");
  CHECK(chat_wrong(R"("format": {"x-guidance": {}})") == "format.x-guidance");
  CHECK(chat_wrong(R"("tools": {})") == "tools");
  CHECK(chat_wrong(R"("tool_choice": "auto")") == "tool_choice");
}

TEST_CASE("ollama chat: messages, tools and schemas are bounded") {
  ServerLimits limits;
  limits.messages = 2;
  limits.tools = 1;
  limits.schema_bytes = 20;
  const auto wrong = [&](const std::string& body) {
    return field_of([&] { read_ollama_chat(Json::parse(body), limits); });
  };
  const std::string message = R"({"role": "user", "content": "x"})";
  const std::string tool = R"({"function": {"name": "f"}})";
  CHECK(
      wrong(
          R"({"model": "m", "messages": [)" + message + "," + message +
          R"(], "tools": [)" + tool + "]}") == "none");
  CHECK(
      wrong(
          R"({"model": "m", "messages": [)" + message + "," + message + "," +
          message + "]}") == "messages");
  CHECK(
      wrong(R"({"model": "m", "tools": [)" + tool + "," + tool + "]}") ==
      "tools");
  CHECK(
      wrong(R"({"model": "m", "tools": [{"function": {"name": "f",
          "parameters": {"description": "far too long"}}}]})") ==
      "tools[0].function.parameters");
}

TEST_CASE("ollama chat: without messages only the model is loaded") {
  CHECK(chat_of("[]").load_only);
  CHECK(read_ollama_chat(Json::parse(R"({"model": "m"})"), ServerLimits{})
            .load_only);
  CHECK(!chat().load_only);
}

TEST_CASE("ollama embed: one text or several") {
  const auto embed = [](const std::string& body) {
    return read_ollama_embed(Json::parse(body), ServerLimits{});
  };
  const auto one = embed(R"({"model": "m", "input": "a"})");
  CHECK(one.inputs == std::vector<std::string>{"a"});
  CHECK(one.truncate);
  for (const char* nothing :
       {R"({"model": "m", "input": ""})", R"({"model": "m", "input": []})"}) {
    CHECK(embed(nothing).inputs.empty());
  }
  CHECK(embed(R"({"model": "m", "input": [""]})").inputs.size() == 1);
  const auto two = embed(R"({"model": "m", "input": ["a", "b"],
      "truncate": false, "dimensions": 64, "keep_alive": "1m",
      "options": {"num_thread": 2}})");
  CHECK(two.inputs.size() == 2);
  CHECK(!two.truncate);
  CHECK(two.dimensions == 64u);
  CHECK(two.keep_seconds == 60);
  const auto wrong = [&](const std::string& body) {
    return field_of([&] { embed(body); });
  };
  CHECK(wrong(R"({"model": "m"})") == "input");
  CHECK(wrong(R"({"model": "m", "input": [1]})") == "input");
  CHECK(wrong(R"({"input": "a"})") == "model");
  CHECK(
      wrong(R"({"model": "m", "input": "a", "dimensions": 0})") ==
      "dimensions");
  CHECK(
      wrong(R"({"model": "m", "input": "a", "options": {"x": 1}})") ==
      "options.x");
  Json many{{"model", "m"}, {"input", Json::array()}};
  many["input"] = std::vector<std::string>(257, "x");
  CHECK(field_of([&] { read_ollama_embed(many, ServerLimits{}); }) == "input");
}

TEST_CASE("ollama embeddings: one prompt") {
  const auto read = [](const std::string& body) {
    return read_ollama_embeddings(Json::parse(body), ServerLimits{});
  };
  CHECK(
      read(R"({"model": "m", "prompt": "a"})").inputs ==
      std::vector<std::string>{"a"});
  CHECK(read(R"({"model": "m", "prompt": ""})").inputs.empty());
  CHECK(field_of([&] { read(R"({"model": "m"})"); }) == "prompt");
  CHECK(field_of([&] {
          read(R"({"model": "m", "prompt": "a", "input": "b"})");
        }) == "input");
}

TEST_CASE("ollama show: a model by its field's new or old name") {
  const auto read = [](const std::string& body) {
    return read_ollama_show(Json::parse(body));
  };
  CHECK(read(R"({"model": "m"})") == "m");
  CHECK(read(R"({"name": "m", "verbose": true})") == "m");
  CHECK(read(R"({"model": "m", "name": "other"})") == "m");
  CHECK(
      read(
          R"({"model": "m", "system": "", "template": "", "options": null})") ==
      "m");
  CHECK(field_of([&] { read("{}"); }) == "model");
  CHECK(
      field_of([&] { read(R"({"model": "m", "system": "x"})"); }) == "system");
  CHECK(field_of([&] { read(R"({"model": "m", "x": 1})"); }) == "x");
}
