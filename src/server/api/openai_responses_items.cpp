#include "server/api/openai_responses_items.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>

#include "server/api/openai_fields.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSeal = "mlx-flash-reasoning-1:";

// Of a part such as {"type": "input_text", "text": "..."}.
std::string part_type(Fields& part) {
  return part.required_text("type");
}

[[noreturn]] void reject_part(const Fields& part, const std::string& type) {
  const bool media =
      type == "input_image" || type == "input_file" || type == "input_audio";
  part.reject(
      "type",
      media ? fmt::format("'{}' is not supported: models read text alone", type)
            : fmt::format("'{}' is not known here", type.substr(0, 64)));
}

Json text_part(const char* type, std::string text) {
  Json part{{"type", type}, {"text", std::move(text)}};
  if (std::string_view(type) == "output_text") {
    part["annotations"] = Json::array();
    part["logprobs"] = Json::array();
  }
  return part;
}

// Content of anyone but an assistant.
Json read_input_part(const Json& value, const std::string& name) {
  Fields part(value, name);
  const std::string type = part_type(part);
  if (type != "input_text") {
    reject_part(part, type);
  }
  Json result = text_part("input_text", part.required_text("text"));
  part.accept({"prompt_cache_breakpoint"});
  part.done();
  return result;
}

Json read_assistant_part(const Json& value, const std::string& name) {
  Fields part(value, name);
  const std::string type = part_type(part);
  std::string text;
  if (type == "output_text" || type == "input_text") {
    text = part.required_text("text");
    part.accept({"annotations", "logprobs", "prompt_cache_breakpoint"});
  } else if (type == "refusal") {
    text = part.required_text("refusal");
  } else {
    reject_part(part, type);
  }
  part.done();
  return text_part("output_text", std::move(text));
}

Json read_parts(
    const Json& parts,
    const std::string& name,
    Json (*read)(const Json&, const std::string&)) {
  Json result = Json::array();
  for (size_t i = 0; i < parts.size(); ++i) {
    result.push_back(read(parts[i], fmt::format("{}[{}]", name, i)));
  }
  return result;
}

// A string, or an array of parts.
Json read_content(Fields& item, const char* field, bool assistant) {
  const Json* content = item.value(field);
  if (!content) {
    item.reject(field, "is missing");
  }
  if (content->is_string()) {
    return Json::array({text_part(
        assistant ? "output_text" : "input_text",
        content->get<std::string>())});
  }
  if (!content->is_array()) {
    item.reject(field, "must be a string or an array of parts");
  }
  return read_parts(
      *content,
      item.path(field),
      assistant ? read_assistant_part : read_input_part);
}

// The client's own, else a new one.
std::string read_id(Fields& item, const char* prefix) {
  const auto id = item.text("id", kMostNameBytes);
  return id && !id->empty() ? *id : new_response_id(prefix);
}

std::string read_status(Fields& item) {
  return item.word("status", {"in_progress", "completed", "incomplete"})
      .value_or("completed");
}

void refuse_caller(Fields& item) {
  item.refuse(
      "caller",
      "is not supported: there are no programs that call tools",
      {R"({"type":"direct"})"});
}

Json read_message(Fields& item) {
  const auto role =
      item.word("role", {"user", "assistant", "system", "developer"});
  if (!role) {
    item.reject("role", "is missing");
  }
  Json result{
      {"id", read_id(item, "msg_")},
      {"type", "message"},
      {"status", read_status(item)},
      {"role", *role}};
  result["content"] = read_content(item, "content", *role == "assistant");
  if (const auto phase = item.word("phase", {"commentary", "final_answer"});
      phase && *role == "assistant") {
    result["phase"] = *phase;
  }
  return result;
}

// Arguments are put into templates as an object.
std::string read_arguments(Fields& item, JsonTexts& texts) {
  const std::string text = item.required_text("arguments");
  if (text.empty()) {
    return "{}"; // of functions without any, by some clients
  }
  texts.check(text, item.path("arguments"));
  return text;
}

Json read_call(Fields& item, JsonTexts& texts) {
  Json result{
      {"id", read_id(item, "fc_")},
      {"type", "function_call"},
      {"status", read_status(item)},
      {"call_id", item.required_text("call_id", kMostNameBytes)},
      {"name", item.required_text("name", kMostNameBytes)}};
  if (const auto name_space = item.text("namespace", kMostNameBytes)) {
    result["namespace"] = *name_space;
  }
  result["arguments"] = read_arguments(item, texts);
  refuse_caller(item);
  return result;
}

Json read_result(Fields& item) {
  Json result{
      {"id", read_id(item, "fco_")},
      {"type", "function_call_output"},
      {"status", read_status(item)},
      {"call_id", item.required_text("call_id", kMostNameBytes)}};
  const Json* output = item.value("output");
  result["output"] = output && output->is_string()
      ? *output
      : read_content(item, "output", false);
  item.accept({"name", "namespace"}); // the call has them
  refuse_caller(item);
  return result;
}

Json read_reasoning_part(const Json& value, const std::string& name) {
  Fields part(value, name);
  part.word("type", {"reasoning_text", "text"});
  Json result = text_part("reasoning_text", part.required_text("text"));
  part.done();
  return result;
}

Json read_summary_part(const Json& value, const std::string& name) {
  Fields part(value, name);
  part.word("type", {"summary_text"});
  Json result = text_part("summary_text", part.required_text("text"));
  part.done();
  return result;
}

Json parts_of(
    Fields& item,
    const char* field,
    Json (*read)(const Json&, const std::string&)) {
  const Json* parts = item.array(field, SIZE_MAX);
  return parts ? read_parts(*parts, item.path(field), read) : Json::array();
}

// Clients may send back the text, the sealed text, or both.
Json read_reasoning(Fields& item) {
  Json result{
      {"id", read_id(item, "rs_")},
      {"type", "reasoning"},
      {"status", read_status(item)},
      {"summary", parts_of(item, "summary", read_summary_part)},
      {"content", parts_of(item, "content", read_reasoning_part)}};
  const std::string sealed = item.text("encrypted_content").value_or("");
  if (result["content"].empty() && !sealed.empty()) {
    if (sealed.compare(0, kSeal.size(), kSeal) != 0) {
      throw invalid_field(
          item.path("encrypted_content"),
          item.path("encrypted_content") +
              " was not made by this server; leave the item out")
          .with_code("invalid_encrypted_content");
    }
    result["content"] =
        Json::array({text_part("reasoning_text", sealed.substr(kSeal.size()))});
  }
  const std::string text = text_of_parts(result["content"]);
  if (!text.empty()) {
    result["encrypted_content"] = sealed_reasoning(text);
  }
  return result;
}

} // namespace

std::string new_response_id(const char* prefix) {
  std::random_device random;
  std::string id = prefix;
  for (int i = 0; i < 4; ++i) {
    id += fmt::format("{:08x}", random());
  }
  return id;
}

Json read_response_item(
    const Json& value,
    const std::string& name,
    JsonTexts& texts) {
  Fields item(value, name);
  const std::string type = item.text("type").value_or("message");
  Json result;
  if (type == "message") {
    result = read_message(item);
  } else if (type == "function_call") {
    result = read_call(item, texts);
  } else if (type == "function_call_output") {
    result = read_result(item);
  } else if (type == "reasoning") {
    result = read_reasoning(item);
  } else {
    item.reject(
        "type",
        fmt::format(
            "'{}' is not supported: items are messages, function_call, "
            "function_call_output, reasoning and item_reference",
            type.substr(0, 64)));
  }
  item.accept({"internal_chat_message_metadata_passthrough"}); // Codex's own
  item.done();
  return result;
}

std::optional<std::string> referenced_item(
    const Json& value,
    const std::string& name) {
  Fields item(value, name);
  const auto type = item.text("type");
  if (type ? *type != "item_reference" : item.has("role")) {
    return std::nullopt;
  }
  std::string id = item.required_text("id", kMostNameBytes);
  item.done();
  return id;
}

Json user_message_item(const std::string& text) {
  return {
      {"id", new_response_id("msg_")},
      {"type", "message"},
      {"status", "completed"},
      {"role", "user"},
      {"content", Json::array({text_part("input_text", text)})}};
}

ItemPtr make_stored_item(const Json& item) {
  return std::make_shared<const StoredItem>(
      StoredItem{item.at("id").get<std::string>(), item.dump()});
}

std::string text_of_parts(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    text += &part == &parts.front() ? "" : "\n";
    text += part.at("text").get_ref<const std::string&>();
  }
  return text;
}

std::string sealed_reasoning(const std::string& text) {
  return std::string(kSeal) + text;
}

} // namespace mlx_flash::server
