// A conversation put together from items of the Responses API, in the form that
// openai_responses_items.h gives them.
//
// Thread rule: belongs to one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "server/conversation.h"

namespace mlx_flash::server {

// What a model knows a function of a namespace as.
std::string name_in_namespace(
    const std::string& name_space,
    const std::string& name);

// Messages of a conversation from items in the form of read_response_item().
// Reasoning, content and calls that follow each other are one message, as the
// model wrote them; so are the system messages that all begins with.
class ResponseMessages {
 public:
  void add_instructions(const std::string& text);
  // Throws ApiError(invalid_request) for the result of a call that is not
  // there.
  void add(const nlohmann::ordered_json& item, const std::string& name);

  std::vector<ChatMessage> take();

 private:
  void add_message(const std::string& role, std::string text);
  void add_reasoning(const nlohmann::ordered_json& item);
  void add_call(const nlohmann::ordered_json& item);
  void add_result(const nlohmann::ordered_json& item, const std::string& name);
  ChatMessage& assistant(bool in_order);

  std::vector<ChatMessage> messages_;
  bool open_ = false; // the last message is an assistant's that may go on
  std::map<std::string, std::string> call_names_; // by call_id
};

} // namespace mlx_flash::server
