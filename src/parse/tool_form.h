// How the models of a family write calls of tools: one file for each family,
// and one line in tool_forms(). A form is found by the model's own chat
// template, which shows the model how.
//
// Thread rule: forms are immutable; a ToolCallParser belongs to one answer.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parse/json_types.h"

namespace mlx_flash::parse {

struct ToolSignature {
  ToolSignature(
      std::string tool_name,
      std::string schema,
      bool is_strict = false)
      : name(std::move(tool_name)),
        parameters(std::move(schema)),
        strict(is_strict),
        types(std::make_shared<const PropertyTypes>(parameters)) {}

  std::string name;
  std::string parameters; // a JSON schema of an object; empty: any object
  bool strict; // arguments follow the schema, not only its types
  // Of the parameters. Found here and once, because calls are read where
  // nothing may take long.
  std::shared_ptr<const PropertyTypes> types;
};

// Hears of the calls in an answer. The parts of a call's arguments make up one
// JSON object in the end; each is told as soon as it is certain. After
// on_call() there is always an on_call_end(), before the next one.
class ToolCallEvents {
 public:
  virtual ~ToolCallEvents() = default;

  virtual void on_call(std::string_view name) = 0;
  virtual void on_arguments(std::string_view json_part) = 0;
  // The arguments are a JSON object: the one that the model wrote, or what of
  // it came before the answer's end or an error, made whole.
  virtual void on_call_end() = 0;
};

// Reads one call, from behind the form's opening mark on. How the text is cut
// into pieces changes nothing but the pieces that are told.
class ToolCallParser {
 public:
  virtual ~ToolCallParser() = default;

  // Takes text up to the end of the call at most, and returns how much it
  // took; less than all only when the call is over.
  virtual size_t push(std::string_view text, ToolCallEvents& events) = 0;

  enum class State {
    reading,
    complete, // it is over, and all of it was told
    broken, // what was read cannot be a call, and nothing was told of it
  };
  virtual State state() const = 0;
  // Whether it was told that there is a call.
  virtual bool called() const = 0;
  // What was read and belongs to no call: of a broken one all, from behind the
  // opening mark on; of a complete one what began like its closing mark and
  // was none.
  virtual const std::string& text() const = 0;
  // The answer is over. Arguments that were begun are closed so that they are
  // an object; what of them was not certain yet is dropped.
  virtual void finish(ToolCallEvents& events) = 0;
};

class ToolForm {
 public:
  virtual ~ToolForm() = default;

  virtual std::string_view name() const = 0; // such as "qwen-json"
  virtual std::string_view opening_mark() const = 0; // such as "<tool_call>"
  virtual std::string_view closing_mark() const = 0;
  // Whether a template teaches this form.
  virtual bool is_taught_by(std::string_view chat_template) const = 0;
  // `tools` must outlive the parser.
  virtual std::unique_ptr<ToolCallParser> make_parser(
      std::span<const ToolSignature> tools) const = 0;
  // Lark rules (llguidance's) for one call of one of `tools` from behind the
  // opening mark up to and with the closing one. The first rule is
  // called `rule`; the names of all others begin with it. Arguments that are
  // not strict are any object. Throws Error(invalid_argument) that names the
  // tool and the keyword for a strict schema that this form cannot hold to.
  virtual std::string grammar(
      std::string_view rule,
      std::span<const ToolSignature> tools) const = 0;
};

std::span<const ToolForm* const> tool_forms();
// Null for a template that teaches none of them.
const ToolForm* find_tool_form(std::string_view chat_template);

} // namespace mlx_flash::parse
