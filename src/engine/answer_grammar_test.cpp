// Grammars for answers (parse/answer_grammar.h) and what reads the answers
// (parse/answer_parser.h) against each other: whatever a model chooses among
// the allowed tokens, the answer is what was asked for. With tokenizers that
// spell the marks, that have tokens for them, and to which they are special.
#include "parse/answer_grammar.h"

#include <map>
#include <optional>
#include <regex>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/read_file.h"
#include "base/rng.h"
#include "engine/test_demo.h"
#include "mlx_flash/error.h"
#include "parse/answer_parser.h"
#include "parse/space.h"
#include "text/detokenizer.h"
#include "text/grammar.h"

namespace mlx_flash {

namespace {

using nlohmann::json;
using parse::AnswerForm;
using parse::AnswerWishes;
using parse::ParsedAnswer;
using parse::ToolSignature;
using Calls = AnswerWishes::Calls;
using Content = AnswerWishes::Content;

enum class Marks { spelled, tokens, special };
constexpr Marks kAllMarks[] = {Marks::spelled, Marks::tokens, Marks::special};

std::string tokenizer_json(Marks marks) {
  json file = json::parse(read_file(kDemoModel / "tokenizer.json"));
  auto id = file["model"]["vocab"].size() + file["added_tokens"].size();
  if (marks != Marks::spelled) {
    for (const char* mark :
         {"<tool_call>", "</tool_call>", "<think>", "</think>"}) {
      file["added_tokens"].push_back(
          {{"id", id++},
           {"content", mark},
           {"single_word", false},
           {"lstrip", false},
           {"rstrip", false},
           {"normalized", false},
           {"special", marks == Marks::special}});
    }
  }
  return file.dump();
}

// A tokenizer, its grammars, and what each token reads.
struct Vocabulary {
  explicit Vocabulary(Marks marks)
      : tokenizer(Tokenizer::from_json(tokenizer_json(marks), "a test")),
        end(*tokenizer.find("<|im_end|>")),
        grammar(tokenizer, tokenizer.vocab_size(), end) {
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      texts.push_back(tokenizer.decode({{id}}, true));
    }
  }

  Tokenizer tokenizer;
  TokenId end;
  Grammar grammar;
  std::vector<std::string> texts;
};

const Vocabulary& vocabulary(Marks marks) {
  static std::map<Marks, Vocabulary> all;
  return all.try_emplace(marks, marks).first->second;
}

std::vector<TokenId> allowed(const Vocabulary& words, GrammarMatcher& matcher) {
  std::vector<uint32_t> mask((words.grammar.vocab_size() + 31) / 32);
  matcher.allowed(mask);
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < words.grammar.vocab_size(); ++id) {
    if (mask[id / 32] >> (id % 32) & 1) {
      ids.push_back(id);
    }
  }
  return ids;
}

// Chooses among allowed tokens: any, or those that bring it nearer to the end
// of what it is in, without which random texts would go on for ever.
class Writer {
 public:
  // Some answers begin with reasoning, which can begin nowhere else.
  Writer(const Vocabulary& words, Rng& rng)
      : words_(words), rng_(rng), aim_(rng.below(4) == 0 ? "<think>" : "") {}

  TokenId choose(const std::vector<TokenId>& ids) {
    const bool may_end =
        std::find(ids.begin(), ids.end(), words_.end) != ids.end();
    if (may_end && rng_.below(16) == 0) {
      return words_.end;
    }
    if (aim_.empty() && rng_.below(2) == 0) {
      static const std::vector<std::string> aims = {
          "<tool_call>",
          "<think>",
          "\n<think>",
          "</think>",
          "\"",
          "}",
          "]",
          "\n</parameter>\n",
          "null",
          "<tool_call>\n{\"name\": \"",
          "\n"};
      aim_ = aims[rng_.below(aims.size())];
    }
    std::vector<TokenId> nearer;
    for (const TokenId id : ids) {
      const std::string& text = words_.texts[id];
      if (!aim_.empty() && !text.empty() && text[0] == aim_[0] &&
          aim_.starts_with(text)) {
        nearer.push_back(id);
      }
    }
    if (nearer.empty()) {
      aim_.clear();
      return ids[rng_.below(ids.size())];
    }
    const TokenId id = nearer[rng_.below(nearer.size())];
    aim_.erase(0, words_.texts[id].size());
    return id;
  }

 private:
  const Vocabulary& words_;
  Rng& rng_;
  std::string aim_;
};

// A random text of the grammar; nothing when it gets too long.
std::optional<std::string>
random_text(const Vocabulary& words, const std::string& source, Rng& rng) {
  constexpr int kMostTokens = 600;
  GrammarMatcher matcher(words.grammar, GrammarKind::lark, source);
  Detokenizer detokenizer(words.tokenizer);
  Writer writer(words, rng);
  std::string text;
  for (int i = 0; i < kMostTokens; ++i) {
    const auto ids = allowed(words, matcher);
    REQUIRE(!ids.empty());
    const TokenId id = writer.choose(ids);
    const bool complete = matcher.commit(id);
    if (id != words.end) {
      text += detokenizer.push(id);
    }
    if (complete || id == words.end) {
      return text + detokenizer.flush();
    }
  }
  return std::nullopt;
}

const parse::ToolForm* form_named(std::string_view name) {
  for (const parse::ToolForm* form : parse::tool_forms()) {
    if (form->name() == name) {
      return form;
    }
  }
  FAIL("no such form");
  return nullptr;
}

const std::string kWeather = R"({
  "type": "object",
  "properties": {
    "city": {"type": "string"},
    "days": {"type": "integer", "minimum": 1, "maximum": 14},
    "unit": {"type": "string", "enum": ["C", "F"]},
    "note": {"type": ["string", "null"]},
    "tags": {"type": "array", "maxItems": 2,
             "items": {"$ref": "#/$defs/tag"}},
    "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]?$"},
    "short": {"type": "string", "minLength": 1, "maxLength": 5}
  },
  "required": ["city", "unit", "code", "short"],
  "additionalProperties": false,
  "$defs": {"tag": {"enum": ["a", "b"]}}
})";

const std::vector<ToolSignature> kStrict = {
    {"get_weather", kWeather, true},
    {"get_time", R"({"type": "object", "properties": {}})", false}};

bool has_type(const json& value, const json& type) {
  return type == "string" ? value.is_string()
      : type == "integer" ? value.is_number_integer()
      : type == "null"    ? value.is_null()
                          : value.is_array();
}

// What of kWeather can be seen without a validator.
void check_weather(const json& arguments) {
  const json schema = json::parse(kWeather);
  REQUIRE(arguments.is_object());
  for (const json& name : schema["required"]) {
    CHECK(arguments.contains(name.get<std::string>()));
  }
  for (const auto& [name, value] : arguments.items()) {
    CAPTURE(name);
    REQUIRE(schema["properties"].contains(name));
    const json& type = schema["properties"][name]["type"];
    CHECK(
        (type.is_array() ? has_type(value, type[0]) || has_type(value, type[1])
                         : has_type(value, type)));
  }
  if (arguments.contains("days")) {
    CHECK(arguments["days"] >= 1);
    CHECK(arguments["days"] <= 14);
  }
  const auto unit = arguments.value("unit", "");
  CHECK((unit == "C" || unit == "F"));
  const auto code = arguments.value("code", "");
  REQUIRE((code.size() == 2 || code.size() == 3));
  CHECK((code[0] >= 'A' && code[0] <= 'Z'));
  CHECK(arguments.value("short", "") != "");
  for (const json& tag : arguments.value("tags", json::array())) {
    CHECK((tag == "a" || tag == "b"));
  }
}

void check_calls(const ParsedAnswer& answer) {
  for (const parse::ParsedCall& call : answer.calls) {
    CAPTURE(call.arguments);
    const json arguments = json::parse(call.arguments, nullptr, false);
    if (call.name == "get_weather") {
      check_weather(arguments);
    } else {
      CHECK(call.name == "get_time");
      CHECK(arguments.is_object());
    }
  }
}

struct Counts {
  int complete = 0;
  int with_calls = 0;
  int with_content = 0;
  int with_reasoning = 0;
};

// A number that no double can hold is JSON to a grammar, but to nothing else:
// it ends a call's arguments.
bool has_huge_number(const std::string& text) {
  static const std::regex huge("[0-9][eE][+-]?[0-9]{3}|[0-9]{300}");
  return std::regex_search(text, huge);
}

// Random answers to the wishes, read and given to `check`.
template <typename Check>
Counts check_answers(
    const AnswerForm& form,
    const AnswerWishes& wishes,
    Marks marks,
    int rounds,
    Check check) {
  const uint64_t seed = 31;
  CAPTURE(seed);
  Rng rng(seed);
  const std::string source = answer_grammar(form, wishes);
  CAPTURE(source);
  Counts counts;
  for (int round = 0; round < rounds; ++round) {
    const auto text = random_text(vocabulary(marks), source, rng);
    if (!text || has_huge_number(*text)) {
      continue;
    }
    CAPTURE(*text);
    const ParsedAnswer answer =
        parse_answer(form, wishes.tools, wishes.in_reasoning, *text);
    check(answer);
    ++counts.complete;
    counts.with_calls += !answer.calls.empty();
    counts.with_content += !parse::trim(answer.content).empty();
    counts.with_reasoning += !answer.reasoning.empty();
  }
  return counts;
}

template <typename Check>
void for_forms_and_marks(Check check) {
  for (const parse::ToolForm* tools : parse::tool_forms()) {
    CAPTURE(tools->name());
    for (const Marks marks : kAllMarks) {
      CAPTURE(static_cast<int>(marks));
      check(AnswerForm{"<think>", "</think>", tools}, marks);
    }
  }
}

AnswerWishes wishes_for(Calls calls) {
  AnswerWishes wishes;
  wishes.tools = kStrict;
  wishes.calls = calls;
  return wishes;
}

} // namespace

TEST_CASE("answer grammar: required calls are made, and nothing else") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    for (const bool parallel : {false, true}) {
      AnswerWishes wishes = wishes_for(Calls::required);
      wishes.parallel_calls = parallel;
      wishes.may_reason = parallel;
      const Counts counts = check_answers(
          form, wishes, marks, 12, [&](const ParsedAnswer& answer) {
            check_calls(answer);
            CHECK(!answer.calls.empty());
            CHECK((parallel || answer.calls.size() == 1));
            CHECK(answer.content == "");
            CHECK((parallel || answer.reasoning.empty()));
          });
      CHECK(counts.complete > 3);
    }
  });
}

TEST_CASE("answer grammar: calls after the reasoning that was begun") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    AnswerWishes wishes = wishes_for(Calls::required);
    wishes.in_reasoning = true;
    const Counts counts =
        check_answers(form, wishes, marks, 8, [&](const ParsedAnswer& answer) {
          check_calls(answer);
          CHECK(!answer.calls.empty());
          CHECK(answer.content == "");
        });
    CHECK(counts.with_reasoning > 2);
  });
}

TEST_CASE("answer grammar: allowed calls among any text are right") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    AnswerWishes wishes = wishes_for(Calls::allowed);
    const Counts counts = check_answers(form, wishes, marks, 40, check_calls);
    CHECK(counts.complete > 20);
    CHECK(counts.with_calls > 0);
    CHECK(counts.with_content > 0);
    CHECK(counts.with_reasoning > 0);
    wishes.in_reasoning = true;
    check_answers(form, wishes, marks, 10, check_calls);
  });
}

TEST_CASE("answer grammar: one call at most, which ends the answer") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    AnswerWishes wishes = wishes_for(Calls::allowed);
    wishes.parallel_calls = false;
    const Counts counts =
        check_answers(form, wishes, marks, 20, [&](const ParsedAnswer& answer) {
          check_calls(answer);
          CHECK(answer.calls.size() <= 1);
        });
    CHECK(counts.with_calls > 0);
    CHECK(counts.complete > counts.with_calls);
  });
}

TEST_CASE("answer grammar: JSON of a schema, or calls instead of it") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    AnswerWishes wishes = wishes_for(Calls::allowed);
    wishes.content = Content::json_schema;
    wishes.source = kWeather;
    wishes.may_reason = true;
    const Counts counts =
        check_answers(form, wishes, marks, 20, [&](const ParsedAnswer& answer) {
          check_calls(answer);
          CHECK(answer.content.empty() != answer.calls.empty());
          if (!answer.content.empty()) {
            check_weather(json::parse(answer.content, nullptr, false));
          }
        });
    CHECK(counts.with_calls > 0);
    CHECK(counts.with_content > 0);
  });
}

TEST_CASE("answer grammar: content within limits, after reasoning or alone") {
  const AnswerForm form{"<think>", "</think>", form_named("qwen-json")};
  const std::string lark =
      "start: head tail # a comment\nhead: \"<\"\ntail: %json {\"enum\": [1]}";
  for (const Marks marks : kAllMarks) {
    for (const bool in_reasoning : {false, true}) {
      AnswerWishes wishes;
      wishes.in_reasoning = in_reasoning;
      wishes.content = Content::json_schema;
      wishes.source = kWeather;
      const auto check = [&](const ParsedAnswer& answer) {
        check_weather(json::parse(answer.content, nullptr, false));
      };
      CHECK(check_answers(form, wishes, marks, 5, check).complete > 1);
      wishes.content = Content::regex;
      wishes.source = "[a-c]{2}/\\/\"[0-9]#//";
      const auto check_regex = [](const ParsedAnswer& answer) {
        REQUIRE(answer.content.size() == 9);
        CHECK(answer.content.substr(2, 3) == "//\"");
        CHECK(answer.content.substr(6) == "#//");
      };
      CHECK(check_answers(form, wishes, marks, 5, check_regex).complete > 1);
      wishes.content = Content::lark;
      wishes.source = lark;
      const auto check_lark = [](const ParsedAnswer& answer) {
        CHECK(answer.content == "<1");
      };
      CHECK(check_answers(form, wishes, marks, 5, check_lark).complete > 1);
    }
  }
}

TEST_CASE("answer grammar: tools that are not strict take any object") {
  // What no grammar can say must not matter.
  const std::string odd = R"({"type": "object", "if": {}, "properties": 5})";
  const std::vector<ToolSignature> tools = {{"get_time", odd, false}};
  for_forms_and_marks([&](const AnswerForm& form, Marks marks) {
    AnswerWishes wishes;
    wishes.tools = tools;
    wishes.calls = Calls::required;
    int members = 0;
    check_answers(form, wishes, marks, 12, [&](const ParsedAnswer& answer) {
      check_calls(answer);
      for (const parse::ParsedCall& call : answer.calls) {
        members += !json::parse(call.arguments).empty();
      }
    });
    CHECK(members > 0);
  });
}

TEST_CASE("answer grammar: any text may be written where calls may") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    const Vocabulary& words = vocabulary(marks);
    const std::string source = answer_grammar(form, wishes_for(Calls::allowed));
    for (const std::string text :
         {"",
          "Hello <tool",
          "a <b <",
          "<think",
          "x\n<thi",
          "<tool_call",
          "Write <think> and",
          "</tool_call> </think> <tool_cal"}) {
      CAPTURE(text);
      GrammarMatcher matcher(words.grammar, GrammarKind::lark, source);
      GrammarMatcher any(words.grammar, GrammarKind::lark, "start: /(?s:.*)/");
      // Byte by byte, so that no token for a mark is in it.
      for (const char byte : text) {
        const auto id = words.tokenizer.encode(std::string(1, byte), false);
        REQUIRE(id.size() == 1);
        matcher.commit(id[0]);
        any.commit(id[0]);
      }
      const auto ids = allowed(words, matcher);
      CHECK(std::find(ids.begin(), ids.end(), words.end) != ids.end());
      for (const TokenId id : allowed(words, any)) {
        // A token may be refused that goes on behind a call's mark.
        if (!std::binary_search(ids.begin(), ids.end(), id)) {
          CAPTURE(words.texts[id]);
          CHECK(
              (text + words.texts[id]).find("<tool_call>") <
              (text + words.texts[id]).size() - 11);
        }
      }
    }
  });
}

TEST_CASE("answer grammar: any text may be written where calls may not") {
  for_forms_and_marks([](const AnswerForm& form, Marks marks) {
    const Vocabulary& words = vocabulary(marks);
    GrammarMatcher matcher(
        words.grammar,
        GrammarKind::lark,
        answer_grammar(form, wishes_for(Calls::forbidden)));
    const auto begins_call = [&](TokenId id, const std::string& before) {
      const std::string text = before + words.texts[id];
      return text.find("<tool_call>") != std::string::npos;
    };
    std::string text;
    for (const char byte :
         std::string("<think>\nHm <tool>\n</think></tool_call><tool_call")) {
      CAPTURE(text);
      const auto ids = allowed(words, matcher);
      CHECK(std::find(ids.begin(), ids.end(), words.end) != ids.end());
      CHECK(std::none_of(ids.begin(), ids.end(), [&](TokenId id) {
        return begins_call(id, text);
      }));
      // Byte by byte, so that no token for a mark is in it.
      const auto id = words.tokenizer.encode(std::string(1, byte), false);
      REQUIRE(id.size() == 1);
      CHECK(std::find(ids.begin(), ids.end(), id[0]) != ids.end());
      matcher.commit(id[0]);
      text += byte;
    }
    const auto ids = allowed(words, matcher);
    CHECK(ids.size() > 1); // anything but the end of the mark
    CHECK(std::none_of(ids.begin(), ids.end(), [&](TokenId id) {
      return begins_call(id, text);
    }));
  });
}

TEST_CASE("answer grammar: no grammar where any text will do") {
  const AnswerForm form{"<think>", "</think>", form_named("qwen-json")};
  const std::vector<ToolSignature> loose = {{"f", kWeather, false}};
  AnswerWishes wishes;
  CHECK(answer_grammar(form, wishes) == "");
  wishes.in_reasoning = true;
  CHECK(answer_grammar(form, wishes) == "");
  wishes.tools = loose;
  CHECK(answer_grammar(form, wishes) == "");
  wishes.calls = Calls::allowed;
  CHECK(answer_grammar(form, wishes) == "");
  wishes.parallel_calls = false;
  CHECK(answer_grammar(form, wishes) != "");
}

} // namespace mlx_flash
