#include "server/api/openai_responses_output.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "server/api/openai_common.h"
#include "server/api/openai_responses_items.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;
using Kind = AnswerPart::Kind;

// What an item of each kind is called, and its parts.
struct ItemWords {
  const char* id_prefix;
  const char* part_type; // null for calls, which have no parts
  const char* delta_event;
  const char* done_event;
};

ItemWords words_of(Kind kind) {
  switch (kind) {
    case Kind::reasoning:
      return {
          "rs_",
          "reasoning_text",
          "response.reasoning_text.delta",
          "response.reasoning_text.done"};
    case Kind::content:
      return {
          "msg_",
          "output_text",
          "response.output_text.delta",
          "response.output_text.done"};
    case Kind::tool_call:
    case Kind::arguments:
      break;
  }
  return {
      "fc_",
      nullptr,
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done"};
}

// The codes that a Response's error may have.
const char* error_code(const ApiError& error) {
  switch (http_status(error.kind())) {
    case 400:
    case 413:
      return "invalid_prompt";
    case 429:
      return "rate_limit_exceeded";
    default:
      return "server_error";
  }
}

Json response_usage(const Usage& usage) {
  return {
      {"input_tokens", usage.prompt_tokens},
      {"input_tokens_details",
       {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
      {"output_tokens", usage.completion_tokens},
      {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void append(Json& to, const Json& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// The item that is being made.
struct OpenItem {
  Kind kind;
  Json item; // with its status, without what follows
  std::string text{}; // or arguments
  Json logprobs = Json::array();
};

} // namespace

struct ResponseWriter::State {
  const std::shared_ptr<const std::string> echo;
  const std::map<std::string, NamespacedName> namespaced;
  const OnEvent on_event;

  std::string model;
  uint64_t sequence = 0;
  std::vector<Json> output{}; // what is complete
  std::optional<OpenItem> open{};
  // Of tokens whose text is still to come.
  std::vector<TokenText> tokens{};
  bool answered = false; // there is a message or a call
  ChoiceEnd::Reason reason = ChoiceEnd::Reason::stop;

  void emit(const char* type, Json fields) {
    if (!on_event) {
      return;
    }
    Json event{{"type", type}, {"sequence_number", sequence++}};
    event.update(fields);
    on_event(type, to_text(event));
  }

  // Of the open item.
  void emit_of_item(const char* type, Json fields) {
    if (on_event) {
      Json event{
          {"item_id", open->item["id"]}, {"output_index", output.size()}};
      if (words_of(open->kind).part_type) {
        event["content_index"] = 0;
      }
      event.update(fields);
      emit(type, std::move(event));
    }
  }

  Json response(const char* status) const {
    Json result = Json::parse(*echo);
    if (!model.empty()) {
      result["model"] = model;
    }
    result["status"] = status;
    result["error"] = nullptr;
    result["incomplete_details"] = nullptr;
    result["output"] = output;
    return result;
  }

  void emit_response(const char* type, const char* status) {
    if (on_event) {
      emit(type, {{"response", response(status)}});
    }
  }

  Json part() const {
    Json result{{"type", words_of(open->kind).part_type}, {"text", open->text}};
    if (open->kind == Kind::content) {
      result["annotations"] = Json::array();
      result["logprobs"] = open->logprobs;
    }
    return result;
  }

  Json new_item(const AnswerPart& from) const {
    Json item{{"id", new_response_id(words_of(from.kind).id_prefix)}};
    if (from.kind == Kind::reasoning) {
      item["type"] = "reasoning";
      item["summary"] = Json::array();
    } else if (from.kind == Kind::content) {
      item["type"] = "message";
      item["role"] = "assistant";
    } else {
      item["type"] = "function_call";
      item["call_id"] = from.call_id;
      const auto place = namespaced.find(from.call_name);
      if (place != namespaced.end()) {
        item["namespace"] = place->second.name_space;
      }
      item["name"] =
          place != namespaced.end() ? place->second.name : from.call_name;
    }
    return item;
  }

  void begin_item(const AnswerPart& from) {
    close("completed");
    if (from.kind != Kind::content) {
      tokens.clear(); // of a mark, which is no text
    }
    open = OpenItem{from.kind, new_item(from)};
    answered |= from.kind != Kind::reasoning;
    if (!on_event) {
      return;
    }
    Json item = open->item;
    item["status"] = "in_progress";
    if (words_of(from.kind).part_type) {
      item["content"] = Json::array();
    } else {
      item["arguments"] = "";
    }
    emit(
        "response.output_item.added",
        {{"output_index", output.size()}, {"item", std::move(item)}});
    if (words_of(from.kind).part_type) {
      emit_of_item("response.content_part.added", {{"part", part()}});
    }
  }

  void add_text(const std::string& text) {
    Json fields{{"delta", text}};
    open->text += text;
    if (open->kind == Kind::content) {
      const Json logprobs = take_logprobs();
      append(open->logprobs, logprobs);
      fields["logprobs"] = logprobs;
    }
    emit_of_item(words_of(open->kind).delta_event, std::move(fields));
  }

  Json take_logprobs() {
    return logprobs_object(std::exchange(tokens, {}))["content"];
  }

  // The open item, if there is one, is complete, or as complete as it gets.
  void close(const char* status) {
    if (!open) {
      return;
    }
    Json& item = open->item;
    if (open->kind == Kind::tool_call) {
      item["arguments"] = open->text;
      emit_of_item(
          words_of(open->kind).done_event,
          {{"name", item["name"]}, {"arguments", open->text}});
    } else {
      Json done{{"text", open->text}};
      if (open->kind == Kind::content) {
        append(open->logprobs, take_logprobs());
        done["logprobs"] = open->logprobs;
      } else {
        item["encrypted_content"] = sealed_reasoning(open->text);
      }
      emit_of_item(words_of(open->kind).done_event, std::move(done));
      emit_of_item("response.content_part.done", {{"part", part()}});
      item["content"] = Json::array({part()});
    }
    item["status"] = status;
    emit(
        "response.output_item.done",
        {{"output_index", output.size()}, {"item", item}});
    output.push_back(std::move(item));
    open.reset();
  }

  // Clients look for an answer's message even where the model had nothing to
  // say.
  void add_empty_message() {
    begin_item({.kind = Kind::content});
    close("completed");
  }
};

ResponseWriter::ResponseWriter(const ResponseRequest& request, OnEvent on_event)
    : state_(new State{
          request.echo,
          request.namespaced,
          std::move(on_event),
          request.job.model}) {}

ResponseWriter::~ResponseWriter() = default;

void ResponseWriter::create(const std::string& model, bool queued) {
  state_->model = model;
  state_->emit_response("response.created", queued ? "queued" : "in_progress");
}

void ResponseWriter::queued() {
  state_->emit_response("response.queued", "queued");
}

void ResponseWriter::in_progress(const std::string& model) {
  state_->model = model;
  state_->emit_response("response.in_progress", "in_progress");
}

void ResponseWriter::add(AnswerPart part) {
  State& state = *state_;
  const bool of_call = part.kind == Kind::arguments;
  const Kind kind = of_call ? Kind::tool_call : part.kind;
  if (kind == Kind::content) {
    state.tokens.insert(
        state.tokens.end(), part.tokens.begin(), part.tokens.end());
  }
  if (part.text.empty() && part.kind != Kind::tool_call) {
    return;
  }
  const bool goes_on = state.open && state.open->kind == kind;
  if (part.kind == Kind::tool_call || !goes_on) {
    state.begin_item(part);
  }
  if (!part.text.empty()) {
    state.add_text(part.text);
  }
}

void ResponseWriter::end(const ChoiceEnd& end) {
  state_->reason = end.reason;
  const bool cut = end.reason == ChoiceEnd::Reason::length;
  state_->close(cut ? "incomplete" : "completed");
  if (!cut && !state_->answered) {
    state_->add_empty_message();
  }
}

StoredResponse ResponseWriter::finish(const Usage& usage) {
  const bool cut = state_->reason == ChoiceEnd::Reason::length;
  Json response = state_->response(cut ? "incomplete" : "completed");
  if (cut) {
    response["incomplete_details"] = {{"reason", "max_output_tokens"}};
  } else {
    response["completed_at"] = unix_seconds();
  }
  response["usage"] = response_usage(usage);

  StoredResponse stored{response["id"], to_text(response), {}, {}};
  for (const Json& item : state_->output) {
    stored.output.push_back(make_stored_item(item));
  }
  state_->emit(
      cut ? "response.incomplete" : "response.completed",
      {{"response", std::move(response)}});
  return stored;
}

void ResponseWriter::fail(const ApiError& error) {
  state_->close("incomplete");
  Json response = state_->response("failed");
  response["error"] = {{"code", error_code(error)}, {"message", error.what()}};
  state_->emit("response.failed", {{"response", std::move(response)}});
}

} // namespace mlx_flash::server
