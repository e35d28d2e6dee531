// Answers of OpenAI's POST /v1/chat/completions: sinks that write a stream of
// chunks, or one object at the end.
//
// Thread rule: sinks as AnswerSink; the rest are pure functions.
#pragma once

#include <memory>

#include <nlohmann/json_fwd.hpp>

#include "server/api/answer_collector.h"
#include "server/api/openai_chat.h"
#include "server/api/openai_common.h"
#include "server/api/openai_stream.h"

namespace mlx_flash::server {

struct ChatForm {
  AnswerHead head;
  size_t choices = 1;
  bool logprobs = false;
  ChatWishes wishes{};
};

std::shared_ptr<AnswerSink> make_chat_stream(
    const ChatForm& form,
    std::shared_ptr<OpenAiStream> stream);

std::shared_ptr<AnswerSink> make_chat_collector(
    const ChatForm& form,
    std::shared_ptr<HttpExchange> exchange);

// A whole answer.
nlohmann::ordered_json chat_object(
    const ChatForm& form,
    const CollectedAnswer& answer);

} // namespace mlx_flash::server
