#include "parse/qwen_xml_call.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

constexpr std::string_view kFunction = "<function=";
constexpr std::string_view kFunctionEnd = "</function>";
constexpr std::string_view kParameter = "<parameter=";
constexpr std::string_view kParameterEnd = "</parameter>";
// What may follow a parameter. Models forget the function's end.
constexpr std::array kFollowing = {kParameter, kFunctionEnd, kQwenCallClose};

enum class Match { none, partial, whole };

Match match_following(std::string_view text) {
  for (const std::string_view mark : kFollowing) {
    if (mark.starts_with(text)) {
      return mark == text ? Match::whole : Match::partial;
    }
  }
  return Match::none;
}

// Line ends and blanks between a parameter and what follows.
constexpr size_t kMostSpace = 64;

// Whether `text` ends a value: a line end, the closing mark, and what may
// follow, whose place is `following`.
Match match_value_end(std::string_view text, size_t& following) {
  const size_t line_end = text.starts_with('\n') ? 1 : 0;
  const std::string_view mark = text.substr(line_end, kParameterEnd.size());
  if (!kParameterEnd.starts_with(mark)) {
    return Match::none;
  }
  following = line_end + mark.size();
  const size_t begin = following;
  while (following < text.size() && is_space(text[following])) {
    ++following;
  }
  if (following - begin > kMostSpace) {
    return Match::none;
  }
  return following == text.size() ? Match::partial
                                  : match_following(text.substr(following));
}

std::string quote(const std::string& text) {
  using Json = nlohmann::json;
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace

bool QwenXmlCall::take(char byte, ToolCallEvents& events) {
  switch (step_) {
    case Step::start:
      return take_start(byte) || fail(byte, events);
    case Step::function_name:
    case Step::parameter_name:
      return take_name(byte, events) || fail(byte, events);
    case Step::body:
      return take_body(byte, events) || fail(byte, events);
    case Step::value:
      take_value(byte, events);
      return true;
  }
  return false;
}

bool QwenXmlCall::take_start(char byte) {
  if (mark_.empty() && is_space(byte)) {
    return true;
  }
  mark_ += byte;
  if (mark_ == kFunction) {
    mark_.clear();
    step_ = Step::function_name;
    return true;
  }
  return kFunction.starts_with(mark_);
}

bool QwenXmlCall::take_name(char byte, ToolCallEvents& events) {
  if (byte != '>') {
    name_ += byte;
    return byte != '<' && byte != '\n' && name_.size() <= kMostNameBytes;
  }
  if (name_.empty()) {
    return false;
  }
  if (step_ == Step::parameter_name) {
    return begin_value();
  }
  begin_call(events);
  return true;
}

void QwenXmlCall::begin_call(ToolCallEvents& events) {
  const auto tool =
      std::find_if(tools_.begin(), tools_.end(), [&](const auto& each) {
        return each.name == name_;
      });
  if (tool != tools_.end()) {
    types_ = tool->types.get();
  }
  begin(name_, events);
  arguments_ = "{";
  step_ = Step::body;
}

bool QwenXmlCall::take_body(char byte, ToolCallEvents& events) {
  if (mark_.empty() && is_space(byte)) {
    return true;
  }
  mark_ += byte;
  const Match match = match_following(mark_);
  if (match == Match::whole) {
    take_mark(std::exchange(mark_, {}), events);
  }
  return match != Match::none;
}

// Where a parameter may begin.
void QwenXmlCall::take_mark(std::string_view mark, ToolCallEvents& events) {
  if (mark == kParameter) {
    name_.clear();
    step_ = Step::parameter_name;
    return;
  }
  end_call(events);
  if (mark == kQwenCallClose) {
    complete();
  } else {
    expect_closing_mark();
  }
}

bool QwenXmlCall::begin_value() {
  if (parameters_.size() == kMostParameters) {
    return false;
  }
  value_prefix_ = (parameters_.empty() ? "" : ", ") + quote(name_) + ": ";
  repeated_ = !parameters_.insert(name_).second;
  value_.emplace(types_ ? types_->of(name_) : kAnyType);
  value_json_.clear();
  step_ = Step::value;
  return true;
}

void QwenXmlCall::take_value(char byte, ToolCallEvents& events) {
  mark_ += byte;
  size_t begin = 0; // of what may be the value's end
  size_t following = 0;
  Match match = Match::none;
  while (begin < mark_.size()) {
    match = match_value_end(std::string_view(mark_).substr(begin), following);
    if (match != Match::none) {
      break;
    }
    value_->push(mark_[begin], value_json_);
    ++begin;
  }
  add_value();
  mark_.erase(0, begin);
  if (match == Match::whole) {
    end_value();
    take_mark(std::exchange(mark_, {}).substr(following), events);
  }
}

void QwenXmlCall::add_value() {
  if (!value_json_.empty() && !repeated_) {
    arguments_ += std::exchange(value_prefix_, {}) + value_json_;
  }
  value_json_.clear();
}

void QwenXmlCall::end_value() {
  value_->end(value_json_);
  add_value();
  value_.reset();
}

void QwenXmlCall::end_call(ToolCallEvents& events) {
  arguments_ += '}';
  tell(events);
  end(events);
}

void QwenXmlCall::tell(ToolCallEvents& events) {
  if (!arguments_.empty()) {
    events.on_arguments(std::exchange(arguments_, {}));
  }
}

void QwenXmlCall::end_early(ToolCallEvents& events) {
  if (!called() || ended()) {
    return;
  }
  if (value_ && value_->end_early(value_json_)) {
    add_value();
  }
  end_call(events);
}

void QwenXmlCall::finish(ToolCallEvents& events) {
  size_t following = 0;
  if (state() == State::reading && value_ &&
      mark_.find(kParameterEnd) != std::string::npos &&
      match_value_end(mark_, following) == Match::partial) {
    end_value();
  }
  QwenCall::finish(events);
}

} // namespace mlx_flash::parse
