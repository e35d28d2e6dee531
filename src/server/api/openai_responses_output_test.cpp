#include "server/api/openai_responses_output.h"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "server/api/openai_responses_items.h"
#include "server/api/openai_responses_messages.h"
#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;
using Kind = AnswerPart::Kind;
using Reason = ChoiceEnd::Reason;

namespace {

ResponseRequest request_of(const std::string& body) {
  ResponseStore store(0, 0);
  return read_response_request(Json::parse(body), {}, store);
}

AnswerPart text_part(Kind kind, const std::string& text) {
  AnswerPart part;
  part.kind = kind;
  part.text = text;
  return part;
}

AnswerPart call_part(const std::string& id, const std::string& name) {
  AnswerPart part;
  part.kind = Kind::tool_call;
  part.call_id = id;
  part.call_name = name;
  return part;
}

// Keeps what a writer tells.
struct Told {
  explicit Told(const std::string& body = R"({"input": "Hi", "model": "m"})")
      : request(request_of(body)),
        writer(
            request,
            [this](const std::string& type, const std::string& json) {
              events.push_back(Json::parse(json));
              CHECK(events.back()["type"] == type);
              CHECK(events.back()["sequence_number"] == events.size() - 1);
            }) {}

  void answer(std::vector<AnswerPart> parts, Reason reason = Reason::stop) {
    writer.create("model", false);
    writer.in_progress("model");
    for (AnswerPart& part : parts) {
      writer.add(std::move(part));
    }
    writer.end({reason});
    stored = writer.finish({10, 4, 6, 2});
  }

  // Their types, without "response.".
  std::string types() const {
    std::string text;
    for (const Json& event : events) {
      const std::string type = event["type"];
      text += (text.empty() ? "" : " ") + type.substr(type.find('.') + 1);
    }
    return text;
  }

  Json first(const std::string& type) const {
    for (const Json& event : events) {
      if (event["type"] == "response." + type) {
        return event;
      }
    }
    FAIL("there is no event " << type);
    return {};
  }

  Json response() const {
    return events.back().at("response");
  }

  ResponseRequest request;
  std::vector<Json> events;
  ResponseWriter writer;
  StoredResponse stored;
};

} // namespace

TEST_CASE("response writer: a text is a message with one part") {
  Told told;
  told.answer(
      {text_part(Kind::content, "Hel"), text_part(Kind::content, "lo")});
  CHECK(
      told.types() ==
      "created in_progress output_item.added content_part.added "
      "output_text.delta output_text.delta output_text.done content_part.done "
      "output_item.done completed");
  const Json added = told.first("output_item.added");
  CHECK(added["output_index"] == 0);
  CHECK(added["item"]["status"] == "in_progress");
  CHECK(added["item"]["content"].empty());
  const std::string id = added["item"]["id"];
  CHECK(id.compare(0, 4, "msg_") == 0);

  const Json delta = told.first("output_text.delta");
  CHECK(delta["item_id"] == id);
  CHECK(delta["output_index"] == 0);
  CHECK(delta["content_index"] == 0);
  CHECK(delta["delta"] == "Hel");
  CHECK(delta["logprobs"].empty());
  CHECK(told.first("output_text.done")["text"] == "Hello");
  CHECK(told.first("content_part.done")["part"]["text"] == "Hello");

  const Json response = told.response();
  CHECK(response["status"] == "completed");
  CHECK(response["model"] == "model");
  CHECK(response["error"].is_null());
  CHECK(response["incomplete_details"].is_null());
  CHECK(response["completed_at"].is_number());
  CHECK(response["output"][0] == told.first("output_item.done")["item"]);
  CHECK(response["output"][0]["content"][0]["text"] == "Hello");
  CHECK(
      response["usage"] ==
      Json::parse(
          R"({"input_tokens": 10, "input_tokens_details":
              {"cached_tokens": 4, "cache_write_tokens": 0},
              "output_tokens": 6, "output_tokens_details":
              {"reasoning_tokens": 2}, "total_tokens": 16})"));
}

TEST_CASE("response writer: responses are themselves from the beginning") {
  Told told;
  told.answer({text_part(Kind::content, "A")});
  const Json created = told.first("created")["response"];
  CHECK(created["status"] == "in_progress");
  CHECK(created["output"].empty());
  CHECK_FALSE(created.contains("usage"));
  CHECK(created["id"] == told.response()["id"]);
  CHECK(told.stored.id == created["id"]);
  CHECK(Json::parse(told.stored.json) == told.response());
  REQUIRE(told.stored.output.size() == 1);
  CHECK(
      Json::parse(told.stored.output[0]->json) == told.response()["output"][0]);
  CHECK(told.stored.output[0]->id == told.response()["output"][0]["id"]);
}

TEST_CASE("response writer: reasoning is an item before the message") {
  Told told;
  told.answer(
      {text_part(Kind::reasoning, "Hm"),
       text_part(Kind::reasoning, "."),
       text_part(Kind::content, "4")});
  CHECK(
      told.types() ==
      "created in_progress output_item.added content_part.added "
      "reasoning_text.delta reasoning_text.delta reasoning_text.done "
      "content_part.done output_item.done output_item.added "
      "content_part.added output_text.delta output_text.done "
      "content_part.done output_item.done completed");
  CHECK(told.first("reasoning_text.done")["text"] == "Hm.");
  const Json output = told.response()["output"];
  REQUIRE(output.size() == 2);
  CHECK(output[0]["type"] == "reasoning");
  CHECK(output[0]["status"] == "completed");
  CHECK(output[0]["summary"].empty());
  CHECK(
      output[0]["content"] ==
      Json::parse(R"([{"type": "reasoning_text", "text": "Hm."}])"));
  CHECK(output[0]["encrypted_content"] == sealed_reasoning("Hm."));
  CHECK(output[1]["type"] == "message");
}

TEST_CASE("response writer: each call is an item of its own") {
  Told told;
  told.answer(
      {call_part("call_1", "f"),
       text_part(Kind::arguments, "{\"a\""),
       text_part(Kind::arguments, ":1}"),
       call_part("call_2", "g"),
       text_part(Kind::arguments, "{}")},
      Reason::tool_calls);
  CHECK(
      told.types() ==
      "created in_progress output_item.added function_call_arguments.delta "
      "function_call_arguments.delta function_call_arguments.done "
      "output_item.done output_item.added function_call_arguments.delta "
      "function_call_arguments.done output_item.done completed");
  const Json added = told.first("output_item.added")["item"];
  CHECK(added["arguments"] == "");
  CHECK(added["call_id"] == "call_1");
  const Json done = told.first("function_call_arguments.done");
  CHECK(done["name"] == "f");
  CHECK(done["arguments"] == "{\"a\":1}");
  CHECK_FALSE(done.contains("content_index"));
  CHECK(told.events[8]["output_index"] == 1);
  const Json output = told.response()["output"];
  REQUIRE(output.size() == 2);
  CHECK(output[0]["arguments"] == "{\"a\":1}");
  CHECK(output[1]["call_id"] == "call_2");
  CHECK(output[1]["name"] == "g");
  CHECK(output[1]["status"] == "completed");
}

TEST_CASE("response writer: a function of a namespace has its own name again") {
  Told told(
      R"({"input": "Hi", "tools": [{"type": "namespace", "name": "crm",
          "tools": [{"type": "function", "name": "find"}]}]})");
  told.answer(
      {call_part("call_1", "crm__find"), text_part(Kind::arguments, "{}")});
  const Json item = told.response()["output"][0];
  CHECK(item["name"] == "find");
  CHECK(item["namespace"] == "crm");
  CHECK(told.first("function_call_arguments.done")["name"] == "find");
}

TEST_CASE("response writer: an answer that is cut is incomplete") {
  Told told;
  told.answer(
      {text_part(Kind::reasoning, "Hm"), text_part(Kind::content, "4")},
      Reason::length);
  CHECK(told.events.back()["type"] == "response.incomplete");
  const Json response = told.response();
  CHECK(response["status"] == "incomplete");
  CHECK(response["incomplete_details"]["reason"] == "max_output_tokens");
  CHECK_FALSE(response.contains("completed_at"));
  CHECK(response["output"][0]["status"] == "completed");
  CHECK(response["output"][1]["status"] == "incomplete");
}

TEST_CASE("response writer: there is a message even if nothing was said") {
  Told silent;
  silent.answer({});
  REQUIRE(silent.response()["output"].size() == 1);
  CHECK(silent.response()["output"][0]["content"][0]["text"] == "");

  Told thought;
  thought.answer({text_part(Kind::reasoning, "Hm")});
  CHECK(thought.response()["output"].size() == 2);

  Told called;
  called.answer({call_part("c", "f"), text_part(Kind::arguments, "{}")});
  CHECK(called.response()["output"].size() == 1);

  Told cut;
  cut.answer({text_part(Kind::reasoning, "Hm")}, Reason::length);
  CHECK(cut.response()["output"].size() == 1);
}

TEST_CASE("response writer: a failure ends what was begun") {
  Told told;
  told.writer.create("model", false);
  told.writer.add(text_part(Kind::content, "Hel"));
  told.writer.fail(ApiError(ApiErrorKind::internal, "a disk is gone"));
  CHECK(
      told.types() ==
      "created output_item.added content_part.added output_text.delta "
      "output_text.done content_part.done output_item.done failed");
  const Json response = told.response();
  CHECK(response["status"] == "failed");
  CHECK(response["error"]["code"] == "server_error");
  CHECK(response["error"]["message"] == "a disk is gone");
  CHECK(response["output"][0]["status"] == "incomplete");
}

TEST_CASE("response writer: failures have the codes that the API knows") {
  const auto code = [](ApiErrorKind kind) {
    Told told;
    told.writer.create("model", true);
    told.writer.fail(ApiError(kind, "x"));
    return told.response()["error"]["code"].get<std::string>();
  };
  CHECK(code(ApiErrorKind::invalid_request) == "invalid_prompt");
  CHECK(code(ApiErrorKind::rate_limited) == "rate_limit_exceeded");
  CHECK(code(ApiErrorKind::unavailable) == "server_error");
}

TEST_CASE("response writer: who waits is told so") {
  Told told;
  told.writer.create("", true);
  told.writer.queued();
  told.writer.in_progress("model");
  CHECK(told.types() == "created queued in_progress");
  CHECK(told.events[0]["response"]["status"] == "queued");
  CHECK(told.events[1]["response"]["status"] == "queued");
  CHECK(told.events[1]["response"]["model"] == "m"); // as it was asked for
  CHECK(told.events[2]["response"]["status"] == "in_progress");
  CHECK(told.events[2]["response"]["model"] == "model");
}

TEST_CASE("response writer: log-probabilities go with their text") {
  Told told(R"({"input": "Hi", "top_logprobs": 1})");
  AnswerPart first = text_part(Kind::content, "");
  first.tokens = {{1, "\xc3", -0.5, {}}}; // a part of a character
  AnswerPart second = text_part(Kind::content, "\xc3\xa9");
  second.tokens = {{2, "\xa9", -0.25, {{2, "\xa9", -0.25, {}}}}};
  AnswerPart third = text_part(Kind::content, "!");
  third.tokens = {{3, "!", -std::numeric_limits<double>::infinity(), {}}};
  AnswerPart last = text_part(Kind::content, "");
  last.tokens = {{4, "\xf0", -1, {}}};
  told.answer({first, second, third, last});

  const Json delta = told.first("output_text.delta");
  REQUIRE(delta["logprobs"].size() == 2);
  CHECK(delta["logprobs"][0]["token"] == "\\xc3");
  CHECK(delta["logprobs"][0]["bytes"] == Json::parse("[195]"));
  CHECK(delta["logprobs"][1]["logprob"] == -0.25);
  CHECK(delta["logprobs"][1]["top_logprobs"].size() == 1);
  const Json part = told.response()["output"][0]["content"][0];
  REQUIRE(part["logprobs"].size() == 4);
  CHECK(part["logprobs"][2]["logprob"] == -9999.0);
  CHECK(told.first("output_text.done")["logprobs"] == part["logprobs"]);
}

TEST_CASE("response writer: without a listener the response is the same") {
  const ResponseRequest request = request_of(R"({"input": "Hi"})");
  ResponseWriter writer(request, nullptr);
  writer.create("model", false);
  writer.add(text_part(Kind::reasoning, "Hm"));
  writer.add(text_part(Kind::content, "4"));
  writer.add(call_part("call_1", "f"));
  writer.add(text_part(Kind::arguments, "{}"));
  writer.end({Reason::tool_calls});
  const Json response = Json::parse(writer.finish({1, 0, 2, 0}).json);
  CHECK(response["model"] == "model");
  REQUIRE(response["output"].size() == 3);
  CHECK(response["output"][0]["type"] == "reasoning");
  CHECK(response["output"][1]["content"][0]["text"] == "4");
  CHECK(response["output"][2]["arguments"] == "{}");
}

TEST_CASE("response writer: what is sent back is the same conversation") {
  Told told;
  told.answer(
      {text_part(Kind::reasoning, "Hm"),
       text_part(Kind::content, "Let me see."),
       call_part("call_1", "f"),
       text_part(Kind::arguments, "{\"a\":1}")},
      Reason::tool_calls);
  ResponseMessages kept;
  ResponseMessages sent;
  JsonTexts texts({});
  const Json output = told.response()["output"];
  for (size_t i = 0; i < output.size(); ++i) {
    kept.add(Json::parse(told.stored.output[i]->json), "kept");
    sent.add(read_response_item(output[i], "sent", texts), "sent");
  }
  for (const auto& messages : {kept.take(), sent.take()}) {
    REQUIRE(messages.size() == 1);
    CHECK(messages[0].role == "assistant");
    CHECK(messages[0].reasoning == "Hm");
    CHECK(messages[0].content == "Let me see.");
    REQUIRE(messages[0].tool_calls.size() == 1);
    CHECK(messages[0].tool_calls[0].id == "call_1");
    CHECK(messages[0].tool_calls[0].arguments == "{\"a\":1}");
  }
}
