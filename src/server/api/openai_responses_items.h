// The items of OpenAI's Responses API (https://platform.openai.com/docs/
// api-reference/responses): messages, calls, their results and reasoning. Read
// from a request's `input` into the one form in which they are kept
// (response_store.h) and sent back. The conversation that they make up is
// openai_responses_messages.h, the request around them
// openai_responses_request.h; items of answers are made by
// openai_responses_output.h.
//
// Thread rule: pure functions.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "server/api/response_store.h"
#include "server/json_texts.h"

namespace mlx_flash::server {

// An id that nobody can guess, for it is all that one needs to read what it
// stands for.
std::string new_response_id(const char* prefix);

// Reads one item that is called `name` in errors. The result is complete: it
// has an id and a status, and content in parts. `texts` are those
// of its request. Throws ApiError(invalid_request).
nlohmann::ordered_json read_response_item(
    const nlohmann::ordered_json& item,
    const std::string& name,
    JsonTexts& texts);

// The id of the item that {"type": "item_reference"} stands for; empty for
// any other.
std::optional<std::string> referenced_item(
    const nlohmann::ordered_json& item,
    const std::string& name);

// A message of a user: what an input that is a string stands for.
nlohmann::ordered_json user_message_item(const std::string& text);

// What an array of parts says, line by line as in chats.
std::string text_of_parts(const nlohmann::ordered_json& parts);

ItemPtr make_stored_item(const nlohmann::ordered_json& item);

// What `encrypted_content` of reasoning is here: the text itself behind a
// mark, so that clients which send back nothing else send back everything.
std::string sealed_reasoning(const std::string& text);

} // namespace mlx_flash::server
