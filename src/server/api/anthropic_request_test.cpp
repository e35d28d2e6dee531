#include "server/api/anthropic_request.h"

#include <doctest/doctest.h>

#include "server/api/test_anthropic.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::anthropic_test;

TEST_CASE("anthropic request: what is given is in the job") {
  const AnthropicRequest request = read_body(R"({
      "model": "m", "max_tokens": 7, "stream": true, "temperature": 0.5,
      "top_p": 0.25, "top_k": 3, "stop_sequences": ["a", "b"]})");
  const Job& job = request.job;
  CHECK(job.model == "m");
  CHECK(job.max_tokens == 7u);
  CHECK(request.stream);
  CHECK(job.sampling.temperature == 0.5);
  CHECK(job.sampling.top_p == 0.25);
  CHECK(job.sampling.top_k == 3);
  CHECK(job.stop_strings == std::vector<std::string>{"a", "b"});
  CHECK(job.choices == 1);
}

TEST_CASE("anthropic request: what is not given is the model's default") {
  const AnthropicRequest request = read_body("{}");
  CHECK(!request.stream);
  CHECK(!request.job.sampling.temperature);
  CHECK(!request.job.sampling.top_p);
  CHECK(!request.job.sampling.top_k);
  CHECK(!request.job.sampling.seed);
  CHECK(request.job.stop_strings.empty());
  CHECK(request.job.constraint.kind == Constraint::Kind::none);
  CHECK(request.job.tool_choice.kind == ToolChoice::Kind::automatic);
  CHECK(!request.edits_context);
}

TEST_CASE("anthropic request: model, max_tokens and messages are required") {
  CHECK(refuses(R"({"model": null})", "model"));
  CHECK(refuses(R"({"max_tokens": null})", "max_tokens"));
  CHECK(refuses(R"({"messages": null})", "messages"));
  CHECK(refuses(R"({"messages": []})", "messages"));
}

TEST_CASE("anthropic request: ranges have their ends and no more") {
  CHECK(read_body(R"({"temperature": 0})").job.sampling.temperature == 0.0);
  CHECK(read_body(R"({"temperature": 1})").job.sampling.temperature == 1.0);
  CHECK(refuses(R"({"temperature": 1.01})", "temperature"));
  CHECK(refuses(R"({"temperature": -0.01})", "temperature"));
  CHECK(refuses(R"({"top_p": 1.5})", "top_p"));
  CHECK(refuses(R"({"top_k": -1})", "top_k"));
  CHECK(refuses(R"({"max_tokens": 0})", "max_tokens"));
  CHECK(refuses(R"({"max_tokens": 1.5})", "max_tokens"));
  ServerLimits limits;
  limits.max_tokens = 100;
  CHECK(refusal("{}", AnthropicPurpose::message, limits).empty());
  limits.max_tokens = 99;
  CHECK(refusal("{}", AnthropicPurpose::message, limits) != "");
}

TEST_CASE("anthropic request: another type is refused by the field's name") {
  for (const char* field :
       {"model",
        "max_tokens",
        "messages",
        "system",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "stream",
        "tools",
        "tool_choice",
        "thinking",
        "metadata",
        "service_tier",
        "output_config",
        "output_format",
        "context_management"}) {
    CAPTURE(field);
    TestJson fields;
    fields[field] = TestJson::array({TestJson::array({1})});
    const std::string said = refusal(fields.dump());
    CHECK(said.rfind(std::string("[") + field, 0) == 0);
  }
}

TEST_CASE("anthropic request: an unknown field is named") {
  CHECK(refuses(R"({"temprature": 1})", "temprature"));
  CHECK(refuses(R"({"n": 1})", "n"));
  CHECK(refuses(R"({"logit_bias": {}})", "logit_bias"));
  CHECK(refuses(R"({"thinking": {"type": "enabled", "x": 1}})", "thinking.x"));
}

TEST_CASE("anthropic request: stop sequences are bounded and not empty") {
  ServerLimits limits;
  limits.stop_strings = 2;
  limits.stop_string_bytes = 3;
  const auto said = [&](const char* fields) {
    return refusal(fields, AnthropicPurpose::message, limits);
  };
  CHECK(said(R"({"stop_sequences": ["abc", "d"]})").empty());
  CHECK(said(R"({"stop_sequences": ["a", "b", "c"]})") != "");
  CHECK(said(R"({"stop_sequences": ["abcd"]})") != "");
  CHECK(said(R"({"stop_sequences": [""]})") != "");
  CHECK(said(R"({"stop_sequences": [1]})") != "");
  CHECK(said(R"({"stop_sequences": "abc"})") != "");
}

TEST_CASE("anthropic request: who does not ask for thinking gets none") {
  CHECK(conversation_of(read_body("{}")).thinking == false);
  const auto thinks = [](const char* fields) {
    return conversation_of(read_body(fields)).thinking;
  };
  CHECK(thinks(R"({"thinking": {"type": "disabled"}})") == false);
  CHECK(thinks(R"({"thinking": {"type": "adaptive"}})") == true);
  CHECK(thinks(R"({"thinking": {"type": "enabled"}})") == true);
  CHECK(
      thinks(R"({"thinking": {"type": "enabled", "budget_tokens": 31999}})") ==
      true);
  CHECK(refuses(R"({"thinking": {}})", "thinking.type"));
  CHECK(refuses(R"({"thinking": {"type": "between_tools"}})", "thinking.type"));
  CHECK(refuses(
      R"({"thinking": {"type": "enabled", "budget_tokens": 0}})",
      "thinking.budget_tokens"));
}

TEST_CASE("anthropic request: thinking is shown unless it is to be omitted") {
  CHECK(read_body("{}").shows_thinking);
  CHECK(read_body(R"({"thinking": {"type": "adaptive"}})").shows_thinking);
  CHECK(read_body(R"({"thinking": {"type": "enabled", "budget_tokens": 2000,
                                   "display": "summarized"}})")
            .shows_thinking);
  CHECK(
      !read_body(R"({"thinking": {"type": "adaptive", "display": "omitted"}})")
           .shows_thinking);
}

TEST_CASE("anthropic request: a schema of the output constrains the answer") {
  for (const char* fields :
       {R"({"output_config": {"format":
            {"type": "json_schema", "schema": {"type": "object"}}}})",
        R"({"output_format":
            {"type": "json_schema", "schema": {"type": "object"}}})"}) {
    const Job job = read_body(fields).job;
    CHECK(job.constraint.kind == Constraint::Kind::json_schema);
    CHECK(job.constraint.source == R"({"type":"object"})");
    CHECK(job.constraint_field.rfind("output_", 0) == 0);
    CHECK(job.constraint_field.find("schema") != std::string::npos);
  }
  CHECK(refuses(
      R"({"output_config": {"format":
            {"type": "json_schema", "schema": {"x-guidance": {}}}}})",
      "output_config.format.schema.x-guidance"));
  CHECK(refuses(
      R"({"output_config": {"format": {"type": "text"}}})",
      "output_config.format.type"));
  CHECK(refuses(
      R"({"output_config": {"format": {"type": "json_schema"}}})",
      "output_config.format.schema"));
  CHECK(refuses(
      R"({"output_format": {"type": "json_schema", "schema": {}},
          "output_config":
              {"format": {"type": "json_schema", "schema": {}}}})",
      "output_config.format"));
  ServerLimits limits;
  limits.schema_bytes = 10;
  CHECK(
      refusal(
          R"({"output_format": {"type": "json_schema",
                                "schema": {"type": "object"}}})",
          AnthropicPurpose::message,
          limits) != "");
}

TEST_CASE("anthropic request: edits of the context are told to be none") {
  const char* edits = R"({"context_management": {"edits": [
      {"type": "clear_thinking_20251015", "keep": "all"},
      {"type": "clear_tool_uses_20250919",
       "trigger": {"type": "input_tokens", "value": 1}}]}})";
  CHECK(read_body(edits).edits_context);
  CHECK(refuses(
      R"({"context_management": {"edits": [{"type": "compact_20260112"}]}})",
      "context_management.edits[0].type"));
  CHECK(refuses(R"({"context_management": {"x": 1}})", "context_management.x"));
}

TEST_CASE("anthropic request: what changes nothing is accepted") {
  CHECK(refusal(R"({
      "metadata": {"user_id": "u"}, "service_tier": "auto",
      "cache_control": {"type": "ephemeral"}, "betas": ["x"],
      "output_config": {"effort": "high"}, "diagnostics": {},
      "inference_geo": "us", "user_profile_id": "p", "workspace_id": "w",
      "speed": "standard", "mcp_servers": [], "fallbacks": []})")
            .empty());
}

TEST_CASE("anthropic request: services of Anthropic's are refused by name") {
  for (const char* field :
       {"container", "compaction", "thread", "fallback_credit_token"}) {
    CAPTURE(field);
    TestJson fields;
    fields[field] = "x";
    CHECK(refuses(fields.dump(), field));
  }
  CHECK(refuses(R"({"mcp_servers": [{"type": "url"}]})", "mcp_servers"));
  CHECK(refuses(R"({"fallbacks": ["m"]})", "fallbacks"));
  CHECK(refuses(R"({"speed": "fast"})", "speed"));
  CHECK(refuses(
      R"({"output_config": {"task_budget": {}}})",
      "output_config.task_budget"));
}

TEST_CASE("anthropic request: an answer that is begun is refused") {
  const char* begun = R"({"messages": [
      {"role": "user", "content": "Hi"},
      {"role": "assistant", "content": "Hel"}]})";
  CHECK(refuses(begun, "messages"));
  CHECK(refusal(begun, AnthropicPurpose::count_tokens).empty());
}

TEST_CASE("anthropic request: counting needs no max_tokens") {
  const char* without = R"({"max_tokens": null})";
  CHECK(refusal(without, AnthropicPurpose::count_tokens).empty());
  CHECK(refuses(without, "max_tokens"));
  CHECK(refusal(R"({"max_tokens": -1})", AnthropicPurpose::count_tokens) != "");
}

TEST_CASE("anthropic request: Claude Code's is read") {
  // As its versions 2.1 send it, shortened.
  const char* body = R"({
      "model": "demo", "max_tokens": 32000, "stream": true, "temperature": 1,
      "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"},
        {"type": "text", "text": "You are Claude Code.",
         "cache_control": {"type": "ephemeral", "scope": "global"}}],
      "messages": [
        {"role": "user", "content": [
          {"type": "text", "text": "<system-reminder>\nx\n</system-reminder>"},
          {"type": "text", "text": "List files",
           "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"role": "system", "content": "Some tools are deferred."},
        {"role": "assistant", "content": [
          {"type": "thinking", "thinking": "Use Bash.", "signature": "mlx-flash"},
          {"type": "text", "text": "I look."},
          {"type": "tool_use", "id": "toolu_0123456789abcdefABCDEF01",
           "name": "Bash", "input": {"command": "ls"}}]},
        {"role": "user", "content": [
          {"type": "tool_result", "tool_use_id": "toolu_0123456789abcdefABCDEF01",
           "content": "a.txt", "is_error": false},
          {"type": "text", "text": "<system-reminder>\ny\n</system-reminder>"}]}],
      "tools": [
        {"name": "Bash", "description": "Runs a command.",
         "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema",
           "type": "object", "properties": {"command": {"type": "string"}},
           "required": ["command"], "additionalProperties": false},
         "eager_input_streaming": true, "defer_loading": false,
         "cache_control": {"type": "ephemeral"}}],
      "metadata": {"user_id": "user_1_account__session_2"},
      "thinking": {"type": "adaptive", "display": "omitted"},
      "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
      "output_config": {"effort": "medium"}})";
  const AnthropicRequest request = read_body(body);
  const Conversation& conversation = conversation_of(request);
  REQUIRE(conversation.messages.size() == 4);
  CHECK(conversation.messages[0].content == "You are Claude Code.");
  CHECK(conversation.messages[2].reasoning == "Use Bash.");
  CHECK(conversation.messages[3].role == "tool");
  CHECK(conversation.tools.size() == 1);
  CHECK(!request.shows_thinking);
}
