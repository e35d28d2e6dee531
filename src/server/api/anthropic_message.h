// What an answer in Anthropic's Messages API consists of, and one that is sent
// in one piece. Streams are anthropic_stream.h.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "server/api/answer_collector.h"
#include "server/api/anthropic_request.h"
#include "server/http/http.h"

namespace mlx_flash::server {

// What an answer says of itself.
struct AnthropicAnswer {
  std::string id;
  std::string model; // as requested, until the job tells its name
  bool shows_thinking = true;
  bool edits_context = false;
};

// With a new id: clients take answers of the same id for one, so it is no
// counter that begins again with the server.
AnthropicAnswer make_anthropic_answer(const AnthropicRequest& request);

// {"type": "message", ...} without content, with this usage so far.
nlohmann::ordered_json anthropic_empty_message(
    const AnthropicAnswer& answer,
    const Usage& usage);
// A whole message. Throws ApiError(internal) if a call's arguments are no JSON
// object.
nlohmann::ordered_json anthropic_message(
    const AnthropicAnswer& answer,
    const CollectedAnswer& collected);

// Tokens that were read from the prompt cache are not `input_tokens`.
nlohmann::ordered_json anthropic_usage(const Usage& usage);
const char* anthropic_stop_reason(const ChoiceEnd& end);
// The stop sequence that ended the answer, or null.
nlohmann::ordered_json anthropic_stop_sequence(const ChoiceEnd& end);
// What is said of edits of the context: none was made.
nlohmann::ordered_json anthropic_no_edits();

// Blocks of content; `text` may be empty where a stream begins one.
nlohmann::ordered_json anthropic_text_block(std::string_view text);
nlohmann::ordered_json anthropic_thinking_block(
    std::string_view thinking,
    std::string_view signature);
nlohmann::ordered_json anthropic_tool_use_block(
    std::string_view call_id,
    std::string_view name,
    nlohmann::ordered_json input);

// What went wrong, in the words by which clients know that they have to shorten
// the conversation.
HttpResponse anthropic_error(const ApiError& error);

// As text; what is no UTF-8 is replaced.
std::string anthropic_dump(const nlohmann::ordered_json& value);

} // namespace mlx_flash::server
