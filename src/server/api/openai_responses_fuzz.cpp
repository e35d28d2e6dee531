// Any bytes as the body of POST /v1/responses, and as the query of what can be
// asked of a response later. What is accepted can be kept, sent to clients, and
// read again when they send it back.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "server/api/openai_common.h"
#include "server/api/openai_responses_items.h"
#include "server/api/openai_responses_output.h"
#include "server/api/openai_responses_stored.h"
#include "server/api_error.h"
#include "server/fields.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

constexpr JsonLimits kJson{64, 1u << 16};

void check(bool holds) {
  if (!holds) {
    std::abort();
  }
}

AnswerPart part_of(AnswerPart::Kind kind, std::string text) {
  AnswerPart part;
  part.kind = kind;
  part.text = std::move(text);
  part.call_id = "call_1";
  part.call_name = "crm__find";
  return part;
}

StoredResponse answer(const ResponseRequest& request) {
  using Kind = AnswerPart::Kind;
  ResponseWriter writer(
      request, [](const std::string&, const std::string& json) {
        check(Json::accept(json));
      });
  writer.create("model", false);
  writer.add(part_of(Kind::reasoning, "Hm."));
  writer.add(part_of(Kind::content, "Let me see."));
  writer.add(part_of(Kind::tool_call, ""));
  writer.add(part_of(Kind::arguments, "{}"));
  writer.end({ChoiceEnd::Reason::tool_calls});
  StoredResponse response = writer.finish({});
  response.input = request.input;
  return response;
}

// With a response, "resp_1", that has an item of each kind.
ResponseStore& store() {
  static ResponseStore kept(16, 1u << 20);
  static const bool filled = [] {
    StoredResponse response = answer(
        read_response_request(Json::parse(R"({"input": "Hi"})"), {}, kept));
    response.id = "resp_1";
    kept.put(std::move(response));
    return true;
  }();
  (void)filled;
  return kept;
}

void fuzz_body(std::string_view text) {
  ResponseRequest request;
  try {
    request = read_response_request(parse_body(text, kJson), {}, store());
  } catch (const ApiError&) {
    return;
  }
  for (const ItemPtr& item : request.input) {
    const Json json = Json::parse(item->json);
    // As JSON without an order.
    JsonTexts texts(kJson);
    const nlohmann::json again = read_response_item(json, "item", texts);
    check(again == nlohmann::json(json));
  }
  const auto& conversation = std::get<Conversation>(request.job.prompt);
  for (const ChatMessage& message : conversation.messages) {
    for (const ToolCall& call : message.tool_calls) {
      check(parse_body(call.arguments, kJson).is_object());
    }
  }
  const StoredResponse response = answer(request);
  check(Json::accept(response.json));
}

void fuzz_query(std::string_view text) {
  try {
    get_response(store(), "resp_1", text);
  } catch (const ApiError&) {
  }
  try {
    check(Json::accept(list_input_items(store(), "resp_1", text).body));
  } catch (const ApiError&) {
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz_body(text);
  fuzz_query(text);
  return 0;
}
