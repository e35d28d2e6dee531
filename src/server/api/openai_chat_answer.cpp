#include "server/api/openai_chat_answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/routes.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

// What a part adds to its message; null for one that adds nothing.
Json delta_of(const AnswerPart& part) {
  switch (part.kind) {
    case AnswerPart::Kind::reasoning:
      return part.text.empty() ? Json()
                               : Json{{"reasoning_content", part.text}};
    case AnswerPart::Kind::content:
      return part.text.empty() && part.tokens.empty()
          ? Json()
          : Json{{"content", part.text}};
    case AnswerPart::Kind::tool_call: {
      const Json call = {
          {"index", part.call},
          {"id", part.call_id},
          {"type", "function"},
          {"function", {{"name", part.call_name}, {"arguments", ""}}},
      };
      return {{"tool_calls", Json::array({call})}};
    }
    case AnswerPart::Kind::arguments:
      break;
  }
  if (part.text.empty()) {
    return {};
  }
  const Json call = {
      {"index", part.call}, {"function", {{"arguments", part.text}}}};
  return {{"tool_calls", Json::array({call})}};
}

Json choice_object(size_t index, Json delta) {
  return {
      {"index", index},
      {"delta", std::move(delta)},
      {"logprobs", nullptr},
      {"finish_reason", nullptr},
  };
}

class ChatStream : public ChunkSink {
 public:
  ChatStream(const ChatForm& form, std::shared_ptr<OpenAiStream> stream)
      : ChunkSink(
            form.head,
            "chat.completion.chunk",
            form.wishes,
            form.choices,
            std::move(stream)),
        logprobs_(form.logprobs) {}

  void on_start(const JobStart& start) override {
    set_model(start.model);
    for (size_t i = 0; i < choices(); ++i) {
      write(choice_object(i, {{"role", "assistant"}, {"content", ""}}));
    }
  }

  void on_part(size_t choice, AnswerPart part) override {
    Json delta = delta_of(part);
    if (delta.is_null()) {
      return;
    }
    Json object = choice_object(choice, std::move(delta));
    if (logprobs_ && part.kind == AnswerPart::Kind::content) {
      object["logprobs"] = logprobs_object(part.tokens);
    }
    write(std::move(object));
  }

 protected:
  Json empty_choice(size_t index) const override {
    return choice_object(index, Json::object());
  }

 private:
  const bool logprobs_;
};

Json message_object(const CollectedChoice& choice) {
  Json message = {{"role", "assistant"}};
  const bool calls = !choice.tool_calls.empty();
  message["content"] =
      calls && choice.content.empty() ? Json() : Json(choice.content);
  message["refusal"] = nullptr;
  message["annotations"] = Json::array();
  if (!choice.reasoning.empty()) {
    message["reasoning_content"] = choice.reasoning;
  }
  for (const ToolCall& call : choice.tool_calls) {
    message["tool_calls"].push_back(
        {{"id", call.id},
         {"type", "function"},
         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return message;
}

} // namespace

Json chat_object(const ChatForm& form, const CollectedAnswer& answer) {
  Json choices = Json::array();
  for (const CollectedChoice& each : answer.choices) {
    choices.push_back(
        {{"index", choices.size()},
         {"message", message_object(each)},
         {"logprobs", form.logprobs ? logprobs_object(each.tokens) : Json()},
         {"finish_reason", finish_reason_word(each.end.reason)}});
  }
  return {
      {"id", form.head.id},
      {"object", "chat.completion"},
      {"created", form.head.created},
      {"model", answer.start.model},
      {"choices", std::move(choices)},
      {"usage", usage_object(answer.usage)},
      {"timings", timings_object(answer.usage, answer.timings)},
  };
}

std::shared_ptr<AnswerSink> make_chat_stream(
    const ChatForm& form,
    std::shared_ptr<OpenAiStream> stream) {
  return std::make_shared<ChatStream>(form, std::move(stream));
}

std::shared_ptr<AnswerSink> make_chat_collector(
    const ChatForm& form,
    std::shared_ptr<HttpExchange> exchange) {
  return std::make_shared<AnswerCollector>(
      form.choices,
      exchange,
      [form, exchange](CollectedAnswer answer) {
        HttpResponse response;
        response.body = to_text(chat_object(form, answer));
        exchange->send(std::move(response));
      },
      [exchange](const ApiError& error) {
        exchange->send(error_response(Dialect::openai, error));
      });
}

} // namespace mlx_flash::server
