// What the tests of src/parse share: events as they come, and a text cut
// anywhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parse/answer_parser.h"

namespace mlx_flash::parse {

// Events as a text, parts of the same kind joined: "R<...>", "C<...>",
// "call f", "A<...>", "end", one after the other.
class EventLog : public AnswerEvents {
 public:
  void on_reasoning(std::string_view text) override {
    add('R', text);
  }
  void on_content(std::string_view text) override {
    add('C', text);
  }
  void on_call(std::string_view name) override {
    flush();
    log_ += "call " + std::string(name) + " ";
  }
  void on_arguments(std::string_view json_part) override {
    add('A', json_part);
    told_ += json_part;
  }
  void on_call_end() override {
    flush();
    log_ += "end ";
    arguments_.push_back(told_);
    told_.clear();
  }

  // The events so far.
  std::string text() {
    flush();
    return log_;
  }
  // Of each call that has ended.
  const std::vector<std::string>& arguments() const {
    return arguments_;
  }

 private:
  void add(char kind, std::string_view text) {
    if (kind != kind_) {
      flush();
      kind_ = kind;
    }
    part_ += text;
  }
  void flush() {
    if (kind_ != 0) {
      log_ += kind_ + ("<" + part_ + "> ");
    }
    kind_ = 0;
    part_.clear();
  }

  std::string log_;
  char kind_ = 0;
  std::string part_;
  std::string told_;
  std::vector<std::string> arguments_;
};

inline std::string events_of(
    const AnswerForm& form,
    const std::vector<ToolSignature>& tools,
    bool in_reasoning,
    const std::vector<std::string_view>& pieces) {
  EventLog log;
  AnswerParser parser(form, tools, in_reasoning);
  for (const std::string_view piece : pieces) {
    parser.push(piece, log);
  }
  parser.finish(log);
  return log.text();
}

inline std::vector<std::string_view> single_bytes(std::string_view text) {
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < text.size(); ++i) {
    pieces.push_back(text.substr(i, 1));
  }
  return pieces;
}

} // namespace mlx_flash::parse
