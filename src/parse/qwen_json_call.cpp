#include "parse/qwen_json_call.h"

#include <nlohmann/json.hpp>

#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

// The text of a JSON string, or nothing for what is none.
std::optional<std::string> unquote(const std::string& raw) {
  const auto value = nlohmann::json::parse(raw, nullptr, false);
  if (!value.is_string()) {
    return std::nullopt;
  }
  return value.get<std::string>();
}

bool is_object(std::string_view text) {
  JsonPrefix json;
  size_t taken = 0;
  while (taken < text.size() && json.push(text[taken])) {
    ++taken;
  }
  return taken == text.size() && text.starts_with('{') &&
      json.state() == JsonPrefix::State::complete;
}

} // namespace

bool QwenJsonCall::take(char byte, ToolCallEvents& events) {
  switch (step_) {
    case Step::in_key:
      return take_key(byte, events);
    case Step::in_value:
      return take_value(byte, events);
    default:
      return is_space(byte) || take_structure(byte, events);
  }
}

bool QwenJsonCall::take_structure(char byte, ToolCallEvents& events) {
  switch (step_) {
    case Step::start:
      step_ = Step::first_key;
      return byte == '{' || fail(byte, events);
    case Step::first_key:
    case Step::key:
      if (byte == '}' && step_ == Step::first_key) {
        return end_object(events) || fail(byte, events);
      }
      step_ = Step::in_key;
      json_ = {};
      raw_.clear();
      return take_key(byte, events);
    case Step::colon:
      step_ = Step::value;
      return byte == ':' || fail(byte, events);
    case Step::value:
      return begin_value(byte, events) || fail(byte, events);
    default:
      break;
  }
  if (byte == ',') {
    step_ = Step::key;
    return true;
  }
  if (byte != '}' && byte != kQwenCallClose[0]) {
    return fail(byte, events);
  }
  // A closing mark here: the model has forgotten the object's brace.
  return end_object(events) ? byte == '}' || take_behind(byte)
                            : fail(byte, events);
}

bool QwenJsonCall::take_key(char byte, ToolCallEvents& events) {
  if ((raw_.empty() && byte != '"') || !json_.push(byte) ||
      raw_.size() == kMostNameBytes) {
    return fail(byte, events);
  }
  raw_ += byte;
  if (json_.state() == JsonPrefix::State::complete) {
    key_ = unquote(raw_).value_or("");
    step_ = Step::colon;
  }
  return true;
}

bool QwenJsonCall::begin_value(char byte, ToolCallEvents& events) {
  step_ = Step::in_value;
  json_ = {};
  raw_.clear();
  target_ = Target::other;
  if (key_ == "name" && !name_) {
    target_ = Target::name;
    if (byte != '"') {
      return false;
    }
  } else if (key_ == "arguments" && !has_arguments_) {
    has_arguments_ = true;
    switch (byte) {
      case '{':
        target_ = Target::object;
        if (name_) {
          begin(*name_, events);
        }
        break;
      case '"':
        target_ = Target::text;
        break;
      case 'n':
        target_ = Target::nothing;
        break;
      default:
        return false;
    }
  }
  return take_value(byte, events);
}

bool QwenJsonCall::take_value(char byte, ToolCallEvents& events) {
  if (!json_.push(byte)) {
    // A number is over only behind its end.
    return json_.state() == JsonPrefix::State::complete
        ? end_value(events) && take(byte, events)
        : fail(byte, events);
  }
  if (target_ == Target::name) {
    raw_ += byte;
    if (raw_.size() > kMostNameBytes) {
      return fail(byte, events);
    }
  } else if (target_ == Target::object || target_ == Target::text) {
    arguments_ += byte;
  }
  return json_.state() != JsonPrefix::State::complete || end_value(events) ||
      fail(byte, events);
}

bool QwenJsonCall::end_value(ToolCallEvents& events) {
  step_ = Step::after;
  switch (target_) {
    case Target::name:
      name_ = unquote(raw_);
      if (!name_ || name_->empty()) {
        return false;
      }
      break;
    case Target::text:
      if (!unwrap_arguments()) {
        return false;
      }
      arguments_complete_ = true;
      break;
    case Target::nothing:
      arguments_ = "{}";
      [[fallthrough]];
    case Target::object:
      arguments_complete_ = true;
      break;
    case Target::other:
      return true;
  }
  if (name_ && arguments_complete_) {
    tell_all(events);
  }
  return true;
}

// From a string that holds the arguments to what it holds.
bool QwenJsonCall::unwrap_arguments() {
  const auto held = unquote(arguments_);
  if (!held) {
    return false;
  }
  const std::string_view inner = trim(*held);
  arguments_ = inner;
  return is_object(inner);
}

bool QwenJsonCall::end_object(ToolCallEvents& events) {
  if (!name_) {
    return false;
  }
  if (!has_arguments_) {
    arguments_ = "{}";
    tell_all(events);
  }
  expect_closing_mark();
  return true;
}

void QwenJsonCall::tell(ToolCallEvents& events) {
  if (!called() || ended()) {
    return;
  }
  // Only an object's certain bytes are told before it is complete, so json_
  // is its.
  const size_t size = json_.certain() - told_;
  if (size > 0) {
    events.on_arguments(std::string_view(arguments_).substr(0, size));
    arguments_.erase(0, size);
    told_ += size;
  }
}

void QwenJsonCall::tell_all(ToolCallEvents& events) {
  if (!called()) {
    begin(*name_, events);
  }
  if (!arguments_.empty()) {
    events.on_arguments(arguments_);
    arguments_.clear();
  }
  end(events);
}

void QwenJsonCall::end_early(ToolCallEvents& events) {
  if (!called() || ended()) {
    return;
  }
  tell(events);
  events.on_arguments(json_.closing());
  end(events);
}

} // namespace mlx_flash::parse
