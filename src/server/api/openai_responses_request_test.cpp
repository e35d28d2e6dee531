#include "server/api/openai_responses_request.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

ResponseStore& no_store() {
  static ResponseStore store(0, 0);
  return store;
}

ResponseRequest read(
    const std::string& body,
    ResponseStore& store = no_store(),
    const ServerLimits& limits = {}) {
  return read_response_request(Json::parse(body), limits, store);
}

// With an input.
ResponseRequest with(const std::string& fields) {
  return read(R"({"input": "Hi", )" + fields + "}");
}

std::string refusal(
    const std::string& body,
    ResponseStore& store = no_store(),
    const ServerLimits& limits = {}) {
  try {
    read(body, store, limits);
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    return error.param;
  }
  return "(none)";
}

std::string refusal_with(const std::string& fields) {
  return refusal(R"({"input": "Hi", )" + fields + "}");
}

const Conversation& conversation(const ResponseRequest& request) {
  return std::get<Conversation>(request.job.prompt);
}

Json echo(const ResponseRequest& request) {
  return Json::parse(*request.echo);
}

std::string words(const ResponseRequest& request) {
  std::string text;
  for (const ChatMessage& each : conversation(request).messages) {
    text += (text.empty() ? "" : " ") + each.role + ":" + each.content;
  }
  return text;
}

} // namespace

TEST_CASE("response request: an input is a string or items") {
  CHECK(words(read(R"({"input": "Hi"})")) == "user:Hi");
  const ResponseRequest items = read(
      R"({"model": "m", "instructions": "Be brief.", "input": [
          {"role": "user", "content": "Hi"},
          {"role": "assistant", "content": "Hello"},
          {"role": "user", "content": "Go on"}]})");
  CHECK(words(items) == "system:Be brief. user:Hi assistant:Hello user:Go on");
  CHECK(items.job.model == "m");
  CHECK(items.input.size() == 3); // instructions are no item
  CHECK(echo(items)["instructions"] == "Be brief.");
  CHECK(echo(read(R"({"input": "Hi"})"))["instructions"].is_null());

  CHECK(refusal("{}") == "input");
  CHECK(refusal(R"({"input": []})") == "input");
  CHECK(refusal(R"({"input": 3})") == "input");
  CHECK(refusal(R"({"input": [3]})") == "input[0]");
  CHECK(
      refusal(R"({"input": [{"role": "user", "content": "a"},
                            {"role": "user", "content": [{}]}]})") ==
      "input[1].content[0].type");
}

TEST_CASE("response request: one that has what OpenAI's clients send") {
  const ResponseRequest request = read(R"({
    "model": "gpt-test", "input": [{"type": "message", "role": "user",
      "content": [{"type": "input_text", "text": "Hi"}]}],
    "instructions": "Be brief.", "tools": [], "tool_choice": "auto",
    "parallel_tool_calls": false, "reasoning": {"effort": "high",
    "summary": "auto"}, "store": false, "stream": true,
    "include": ["reasoning.encrypted_content"], "service_tier": "auto",
    "prompt_cache_key": "key", "text": {"verbosity": "medium"},
    "client_metadata": {"x-codex-installation-id": "id"}})");
  CHECK(request.stream);
  CHECK_FALSE(request.store);
  CHECK_FALSE(request.job.tool_choice.parallel);
  CHECK(echo(request)["prompt_cache_key"] == "key");
}

TEST_CASE("response request: sampling is what the request says of it") {
  const ResponseRequest plain = with(R"("store": true)");
  CHECK_FALSE(plain.job.sampling.temperature);
  CHECK(echo(plain)["temperature"].is_null());
  const ResponseRequest request =
      with(R"("temperature": 0.5, "top_p": 0.75, "seed": 7)");
  CHECK(request.job.sampling.temperature == 0.5);
  CHECK(request.job.sampling.top_p == 0.75);
  CHECK(request.job.sampling.seed == 7);
  CHECK(echo(request)["temperature"] == 0.5);
  CHECK(echo(request)["top_p"] == 0.75);
  CHECK(refusal_with(R"("temperature": 2.5)") == "temperature");
  CHECK(refusal_with(R"("top_p": -1)") == "top_p");
}

TEST_CASE("response request: lengths have bounds") {
  CHECK(with(R"("max_output_tokens": 1)").job.max_tokens == 1);
  CHECK(echo(with(R"("max_output_tokens": 20)"))["max_output_tokens"] == 20);
  CHECK_FALSE(with(R"("max_output_tokens": null)").job.max_tokens);
  CHECK(refusal_with(R"("max_output_tokens": 0)") == "max_output_tokens");
  CHECK(
      refusal_with(R"("max_output_tokens": 99999999999)") ==
      "max_output_tokens");
  CHECK(echo(with(R"("max_tool_calls": 3)"))["max_tool_calls"] == 3);
}

TEST_CASE("response request: log-probabilities by either field") {
  CHECK_FALSE(with(R"("store": true)").job.logprobs);
  const ResponseRequest included =
      with(R"("include": ["message.output_text.logprobs"])");
  CHECK(included.job.logprobs);
  CHECK(included.job.top_logprobs == 0);
  const ResponseRequest top = with(R"("top_logprobs": 20)");
  CHECK(top.job.logprobs);
  CHECK(top.job.top_logprobs == 20);
  CHECK(echo(top)["top_logprobs"] == 20);
  CHECK_FALSE(with(R"("top_logprobs": 0)").job.logprobs);
  CHECK(refusal_with(R"("top_logprobs": 21)") == "top_logprobs");
  CHECK(refusal_with(R"("include": ["everything"])") == "include");
  CHECK(refusal_with(R"("include": [3])") == "include");
  CHECK(refusal_with(R"("include": [null])") == "include");
}

TEST_CASE("response request: the form of the text") {
  const auto format = [](const std::string& text) {
    return with(R"("text": {"format": )" + text + "}");
  };
  CHECK(
      format(R"({"type": "text"})").job.constraint.kind ==
      Constraint::Kind::none);
  const ResponseRequest object = format(R"({"type": "json_object"})");
  CHECK(object.job.constraint.kind == Constraint::Kind::json_schema);
  CHECK(object.job.constraint.source == R"({"type":"object"})");
  const ResponseRequest schema = format(
      R"({"type": "json_schema", "name": "n", "strict": true,
          "description": "d", "schema": {"type": "string"}})");
  CHECK(schema.job.constraint.source == R"({"type":"string"})");
  CHECK(schema.job.constraint_field == "text.format");
  CHECK(
      echo(schema)["text"]["format"] ==
      Json::parse(R"({"type": "json_schema", "name": "n", "description": "d",
                      "schema": {"type": "string"}, "strict": true})"));
  CHECK(echo(with(R"("text": {})"))["text"]["format"]["type"] == "text");

  const auto refused = [](const std::string& text) {
    return refusal_with(R"("text": )" + text);
  };
  CHECK(refused(R"({"format": {}})") == "text.format.type");
  CHECK(refused(R"({"format": {"type": "xml"}})") == "text.format.type");
  CHECK(
      refused(R"({"format": {"type": "json_schema", "name": "n"}})") ==
      "text.format.schema");
  CHECK(
      refused(R"({"format": {"type": "json_schema", "schema": {}}})") ==
      "text.format.name");
  CHECK(
      refused(R"({"format": {"type": "text", "schema": {}}})") ==
      "text.format.schema");
  CHECK(
      refused(R"({"format": {"type": "json_schema", "name": "n",
                             "schema": {"x-guidance": {}}}})") ==
      "text.format.schema.x-guidance");
  CHECK(refused(R"({"verbosity": "low"})") == "text.verbosity");
  CHECK(refused(R"({"verbosity": "medium"})") == "(none)");

  ServerLimits limits;
  limits.schema_bytes = 10;
  CHECK(
      refusal(
          R"({"input": "Hi", "text": {"format": {"type": "json_schema",
              "name": "n", "schema": {"type": "string"}}}})",
          no_store(),
          limits) == "text.format.schema");
}

TEST_CASE("response request: effort says whether the model thinks") {
  const auto thinking = [](const std::string& effort) {
    return conversation(with(R"("reasoning": {"effort": )" + effort + "}"))
        .thinking;
  };
  CHECK(thinking("\"none\"") == false);
  CHECK(thinking("\"minimal\"") == false);
  CHECK(thinking("\"low\"") == true);
  CHECK(thinking("\"xhigh\"") == true);
  CHECK_FALSE(thinking("null"));
  const ResponseRequest high = with(R"("reasoning": {"effort": "high"})");
  CHECK(conversation(high).template_values == R"({"reasoning_effort":"high"})");
  CHECK(echo(high)["reasoning"]["effort"] == "high");
  CHECK(
      refusal_with(R"("reasoning": {"effort": "some"})") == "reasoning.effort");
  CHECK(
      refusal_with(R"("reasoning": {"summary": "x"})") == "reasoning.summary");
  CHECK(
      refusal_with(R"("reasoning": {"context": "all_turns"})") ==
      "reasoning.context");
  CHECK(refusal_with(R"("reasoning": {"mode": "pro"})") == "reasoning.mode");
  CHECK(refusal_with(R"("reasoning": {"tokens": 1})") == "reasoning.tokens");
}

TEST_CASE("response request: metadata come back and have bounds") {
  CHECK(echo(with(R"("metadata": {"a": "b"})"))["metadata"]["a"] == "b");
  CHECK(echo(with(R"("metadata": null)"))["metadata"] == Json::object());
  CHECK(refusal_with(R"("metadata": {"a": 1})") == "metadata.a");
  CHECK(refusal_with(R"("metadata": {"a": null})") == "metadata.a");
  CHECK(
      refusal_with(R"("metadata": {"a": ")" + std::string(513, 'x') + "\"}") ==
      "metadata.a");
  CHECK(
      refusal_with(R"("metadata": {")" + std::string(65, 'x') + R"(": ""})") ==
      "metadata");
  Json many;
  for (int i = 0; i < 17; ++i) {
    many[std::to_string(i)] = "x";
  }
  CHECK(refusal_with("\"metadata\": " + many.dump()) == "metadata");
}

TEST_CASE("response request: what cannot be had is refused by its name") {
  CHECK(refusal_with(R"("background": true)") == "background");
  CHECK(refusal_with(R"("background": false)") == "(none)");
  CHECK(refusal_with(R"("conversation": "conv_1")") == "conversation");
  CHECK(refusal_with(R"("prompt": {"id": "pmpt_1"})") == "prompt");
  CHECK(refusal_with(R"("truncation": "auto")") == "truncation");
  CHECK(refusal_with(R"("truncation": "disabled")") == "(none)");
  CHECK(
      refusal_with(R"("context_management": [{"type": "compaction"}])") ==
      "context_management");
  CHECK(refusal_with(R"("moderation": {"model": "m"})") == "moderation");
  CHECK(refusal_with(R"("messages": [])") == "messages");
  CHECK(refusal_with(R"("max_tokens": 3)") == "max_tokens");
  CHECK(refusal_with(R"("n": 2)") == "n");
  CHECK(
      refusal_with(R"("stream_options": {"include_obfuscation": false})") ==
      "stream_options");
  CHECK(
      refusal_with(
          R"("stream": true, "stream_options": {"include_usage": true})") ==
      "stream_options.include_usage");
  CHECK(
      refusal_with(
          R"("stream": true,
             "stream_options": {"include_obfuscation": false})") == "(none)");
}

TEST_CASE("response request: harmless fields are accepted") {
  const ResponseRequest request = with(
      R"("user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
         "prompt_cache_retention": "24h", "prompt_cache_options": {},
         "service_tier": "flex", "client_metadata": {}, "access_programs": [])");
  CHECK(echo(request)["user"] == "u");
  CHECK(echo(request)["safety_identifier"] == "s");
  CHECK(echo(request)["service_tier"] == "default");
  CHECK_FALSE(echo(with(R"("store": true)")).contains("user"));
}

TEST_CASE("response request: an answer that is begun is refused") {
  const std::string begun =
      R"({"type": "message", "id": "msg_7", "role": "assistant",
          "content": "{"})";
  const std::string question = R"({"role": "user", "content": "Hi"})";
  const std::string call = R"({"type": "function_call", "call_id": "c",
      "name": "f", "arguments": "{}"})";
  CHECK(refusal(R"({"input": [)" + question + "," + begun + "]}") == "input");
  CHECK(refusal(R"({"input": [)" + question + "," + call + "]}") == "input");
  CHECK(refusal(R"({"input": [)" + begun + "," + question + "]}") == "(none)");
  // What is gone on from ends with an answer that is not begun here.
  ResponseStore store(10, 1u << 20);
  const auto item = std::make_shared<const StoredItem>(StoredItem{
      "msg_7",
      R"({"id":"msg_7","type":"message","role":"assistant",)"
      R"("content":[{"type":"output_text","text":"4"}]})"});
  store.put({"resp_1", "{}", {}, {item}});
  CHECK(refusal(R"({"previous_response_id": "resp_1"})", store) == "(none)");
  CHECK(
      refusal(
          R"({"previous_response_id": "resp_1", "input": [)" + begun + "]}",
          store) == "input");
}

TEST_CASE("response request: what is sent back takes as much as it was sent") {
  std::string numbers = "1";
  for (int i = 0; i < 10'000; ++i) {
    numbers += ",1";
  }
  const std::string body = R"({"input": "Hi", "tools": [{"type": "function",
      "name": "f", "parameters": {"enum": [)" +
      numbers + "]}}]}";
  const ResponseRequest request = read(body);
  CHECK(request.echo->size() < body.size() + 1000);
  CHECK(echo(request)["tools"][0]["parameters"]["enum"].size() == 10'001);
}

TEST_CASE("response request: it goes on where an earlier response ended") {
  ResponseStore store(10, 1u << 20);
  const auto item = [](const std::string& id, const std::string& json) {
    return std::make_shared<const StoredItem>(StoredItem{id, json});
  };
  const ItemPtr question = item(
      "msg_1",
      R"({"id":"msg_1","type":"message","role":"user",)"
      R"("content":[{"type":"input_text","text":"2+2?"}]})");
  const ItemPtr answer = item(
      "msg_2",
      R"({"id":"msg_2","type":"message","role":"assistant",)"
      R"("content":[{"type":"output_text","text":"4"}]})");
  store.put({"resp_1", "{}", {question}, {answer}});

  const ResponseRequest next = read(
      R"({"previous_response_id": "resp_1", "input": "And 3+3?",
          "instructions": "New."})",
      store);
  CHECK(words(next) == "system:New. user:2+2? assistant:4 user:And 3+3?");
  REQUIRE(next.input.size() == 3);
  CHECK(next.input[0] == question); // no copies
  CHECK(next.input[1] == answer);
  CHECK(echo(next)["previous_response_id"] == "resp_1");

  const ResponseRequest reference = read(
      R"({"input": [{"role": "user", "content": "2+2?"},
                    {"type": "item_reference", "id": "msg_2"},
                    {"role": "user", "content": "Sure?"}]})",
      store);
  CHECK(words(reference) == "user:2+2? assistant:4 user:Sure?");
  CHECK(reference.input[1] == answer);

  CHECK(
      refusal(
          R"({"input": [{"type": "item_reference", "id": "msg_9"}]})", store) ==
      "input[0].id");
  try {
    read(R"({"previous_response_id": "resp_9", "input": "Hi"})", store);
    FAIL("was accepted");
  } catch (const ApiError& error) {
    CHECK(error.param == "previous_response_id");
    CHECK(error.code == "previous_response_not_found");
  }

  ServerLimits limits;
  limits.messages = 2;
  CHECK(
      refusal(
          R"({"previous_response_id": "resp_1", "input": "x"})",
          store,
          limits) == "input");
}

TEST_CASE("responses request: a few bytes stand for no more than a body") {
  ResponseStore store(4, 1 << 20);
  const ItemPtr answer = std::make_shared<const StoredItem>(StoredItem{
      "msg_1",
      Json{
          {"id", "msg_1"},
          {"type", "message"},
          {"role", "assistant"},
          {"content",
           {{{"type", "output_text"}, {"text", std::string(10'000, 'x')}}}}}
          .dump()});
  store.put({"resp_1", "{}", {}, {answer}});
  ServerLimits limits;
  limits.body_bytes = 25'000;
  const auto repeated = [](int count) {
    Json input = Json::array({{{"role", "user"}, {"content", "Hi"}}});
    for (int i = 0; i < count; ++i) {
      input.push_back({{"type", "item_reference"}, {"id", "msg_1"}});
    }
    input.push_back({{"role", "user"}, {"content", "Go on"}});
    return Json{{"input", input}};
  };
  Json body = repeated(2);
  CHECK(refusal(body.dump(), store, limits) == "(none)");
  CHECK(refusal(repeated(3).dump(), store, limits) == "input[3]");
  body["previous_response_id"] = "resp_1"; // which counts, too
  CHECK(refusal(body.dump(), store, limits) == "input[2]");
}

TEST_CASE("responses request: arguments of all calls keep to a body's limit") {
  ServerLimits limits;
  limits.json_values = 12;
  const auto calls = [](int count) {
    Json input = Json::array();
    for (int i = 0; i < count; ++i) {
      input.push_back(
          {{"type", "function_call"},
           {"call_id", "c"},
           {"name", "f"},
           {"arguments", R"({"a": [1, 2, 3]})"}});
    }
    input.push_back({{"role", "user"}, {"content", "Go on"}});
    return Json{{"input", input}}.dump();
  };
  CHECK(refusal(calls(2), no_store(), limits) == "(none)");
  CHECK(refusal(calls(3), no_store(), limits) == "input[2].arguments");
}
