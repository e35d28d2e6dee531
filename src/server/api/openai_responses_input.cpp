#include "server/api/openai_responses_input.h"

#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "server/api/openai_fields.h"
#include "server/api/openai_responses_items.h"
#include "server/api/openai_responses_messages.h"
#include "server/api_error.h"
#include "server/json_texts.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

class InputReader {
 public:
  InputReader(
      const ServerLimits& limits,
      ResponseStore& store,
      std::vector<ItemPtr> items)
      : limits_(limits),
        store_(store),
        texts_(json_limits(limits)),
        items_(std::move(items)),
        previous_(items_.size()) {}

  // `instructions` are the request's own; those of earlier ones are past.
  void read(Fields& body, const std::optional<std::string>& instructions) {
    if (instructions && !instructions->empty()) {
      messages_.add_instructions(*instructions);
    }
    for (const ItemPtr& item : items_) {
      add_stored(*item, "previous_response_id");
    }
    const Json* input = body.value("input");
    if (input && input->is_string()) {
      add(user_message_item(input->get<std::string>()), "input");
    } else if (input) {
      if (!input->is_array()) {
        body.reject("input", "must be a string or an array of items");
      }
      read_items(*body.array("input", limits_.messages), body.path("input"));
    }
    if (items_.size() > limits_.messages) {
      body.reject(
          "input",
          fmt::format(
              "must have at most {} items, those of previous_response_id "
              "included",
              limits_.messages));
    }
  }

  ResponseInput take(const Fields& body) {
    ResponseInput input;
    input.messages = messages_.take();
    if (input.messages.empty()) {
      body.reject("input", "is missing");
    }
    input.has_new = items_.size() > previous_;
    input.items = std::move(items_);
    return input;
  }

 private:
  void read_items(const Json& input, const std::string& field) {
    for (size_t i = 0; i < input.size(); ++i) {
      const std::string name = fmt::format("{}[{}]", field, i);
      if (const auto id = referenced_item(input[i], name)) {
        add_referenced(*id, name);
      } else {
        add(read_response_item(input[i], name, texts_), name);
      }
    }
  }

  void add_referenced(const std::string& id, const std::string& name) {
    const ItemPtr item = store_.find_item(id);
    if (!item) {
      throw invalid_field(
          name + ".id",
          fmt::format(
              "{}.id '{}' is of no response that is here (any more): send the "
              "item itself",
              name,
              id));
    }
    add_stored(*item, name);
    items_.push_back(item);
  }

  // A few bytes of a request can stand for many, and again and again.
  void add_stored(const StoredItem& item, const std::string& name) {
    stored_bytes_ += item.json.size();
    if (stored_bytes_ > limits_.body_bytes) {
      throw invalid_field(
          name,
          fmt::format(
              "{} stands for items of more than {} bytes, with those before "
              "it; send fewer, or start the server with a larger "
              "--max-body-bytes",
              name,
              limits_.body_bytes));
    }
    messages_.add(Json::parse(item.json), name);
  }

  void add(const Json& item, const std::string& name) {
    messages_.add(item, name);
    items_.push_back(make_stored_item(item));
  }

  const ServerLimits& limits_;
  ResponseStore& store_;
  JsonTexts texts_;
  std::vector<ItemPtr> items_;
  const size_t previous_; // of these
  uint64_t stored_bytes_ = 0; // of items that the request does not bring
  ResponseMessages messages_;
};

} // namespace

ResponseInput read_response_input(
    Fields& body,
    const ServerLimits& limits,
    ResponseStore& store,
    const std::optional<std::string>& instructions,
    std::vector<ItemPtr> previous) {
  InputReader reader(limits, store, std::move(previous));
  reader.read(body, instructions);
  return reader.take(body);
}

} // namespace mlx_flash::server
