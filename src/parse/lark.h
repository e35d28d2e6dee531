// Pieces of Lark grammars as llguidance reads them.
//
// Thread rule: pure functions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mlx_flash::parse {

// A literal.
std::string lark_string(std::string_view text);
// A terminal that matches the regular expression. An empty one is a literal.
std::string lark_regex(std::string_view regex);
// The regular expression that matches `text` alone.
std::string escape_regex(std::string_view text);

// A terminal's expression for any text without `regexes` in it; each must
// match at its beginning, such as "(.*\n)?x" with what may come before.
//
// A lazy lexeme would say the same of a single mark, but the text behind its
// end could then begin another one.
std::string lark_text_without(std::initializer_list<std::string> regexes);

// The rule's body for a schema's JSON, without white space but for one blank
// behind each comma and colon: where a grammar allows any, a small model
// writes blanks for ever. Such blanks are how models' templates write JSON.
// What `schema`, an object, says itself of llguidance's options ("x-guidance")
// does not count: schemas come from clients.
std::string lark_json(nlohmann::ordered_json schema);

} // namespace mlx_flash::parse
