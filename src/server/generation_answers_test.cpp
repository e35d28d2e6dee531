// What answers consist of, and what they are asked for. The way of a job is in
// generations_test.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/answer_options.h"
#include "server/test_generations.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

using Fixture = GenerationsFixture;

const char* const kWeather =
    R"({"type":"object","properties":{"city":{"type":"string"}}})";

Job with_tools(const std::string& text = "Weather?") {
  Job job = Fixture::chat(text);
  std::get<Conversation>(job.prompt).tools = {
      {"weather", "", kWeather}, {"now"}};
  return job;
}

std::string call_of(const std::string& name, const std::string& arguments) {
  return "<tool_call>\n{\"name\": \"" + name +
      "\", \"arguments\": " + arguments + "}\n</tool_call>";
}

GenerationOptions options_of(const Fixture& f) {
  REQUIRE(!f.scripted.requests().empty());
  return f.scripted.requests().back().options;
}

std::string bytes_of(const std::vector<AnswerPart>& parts) {
  std::string bytes;
  for (const AnswerPart& part : parts) {
    for (const TokenText& token : part.tokens) {
      bytes += token.bytes;
    }
  }
  return bytes;
}

} // namespace

TEST_CASE("answers: reasoning is told apart from content") {
  Fixture f("<think>\nLet me see.\n</think>\n\nIt is 4.");
  const auto done = f.answer(Fixture::chat("2+2?"));
  CHECK(done->choice().reasoning == "Let me see.");
  CHECK(done->choice().content == "It is 4.");
  const ChoiceEnd& end = *done->choice().end;
  CHECK(end.reason == ChoiceEnd::Reason::stop);
  CHECK(end.reasoning_tokens >= 11);
  CHECK(end.reasoning_tokens <= 15); // with the marks and line ends
  CHECK(end.completion_tokens == 25);
  CHECK(done->usage->reasoning_tokens == end.reasoning_tokens);
}

TEST_CASE("answers: may begin inside reasoning, if the template says so") {
  Fixture f("Let me see.\n</think>\n\nIt is 4.");
  Job job = Fixture::chat("2+2?");
  std::get<Conversation>(job.prompt).template_values =
      R"({"think_first":true})";
  const auto done = f.answer(job);
  CHECK(done->choice().reasoning == "Let me see.");
  CHECK(done->choice().content == "It is 4.");
}

TEST_CASE("answers: who switched thinking off is told none of it") {
  Fixture f("Let me see.\n</think>\n\nIt is 4.");
  Job job = Fixture::chat("2+2?");
  job.logprobs = true;
  auto& conversation = std::get<Conversation>(job.prompt);
  conversation.template_values = R"({"think_first":true})";
  conversation.thinking = false;
  const auto done = f.answer(job);
  CHECK(done->choice().reasoning == "");
  CHECK(done->choice().content == "It is 4.");
  CHECK(bytes_of(done->choice().parts) == "It is 4.");
  // It was made nevertheless.
  CHECK(done->usage->reasoning_tokens >= 11);
}

TEST_CASE("answers: where thinking is closed its marks are content") {
  const std::string text = "<think>\nHm.\n</think>\n\nIt is 4.";
  Fixture f(text.c_str());
  Job job = Fixture::chat("What does a model's reasoning look like?");
  std::get<Conversation>(job.prompt).thinking = false;
  const auto done = f.answer(job);
  CHECK(done->choice().reasoning == "");
  CHECK(done->choice().content == text);
  CHECK(done->usage->reasoning_tokens == 0);
}

TEST_CASE("answers: a call that a stop string cut is none to be made") {
  Fixture f(call_of("weather", R"({"city": "Rome"})").c_str());
  Job job = with_tools();
  job.stop_strings = {"Rome"};
  CHECK(f.answer(job)->choice().end->reason == ChoiceEnd::Reason::stop);
}

TEST_CASE("answers: calls of tools have ids, names and arguments") {
  Fixture f(("Looking.\n" + call_of("weather", R"({"city": "Rome"})") + "\n" +
             call_of("now", "{}"))
                .c_str());
  const auto done = f.answer(with_tools());
  CHECK(done->choice().content == "Looking.");
  const auto& calls = done->choice().calls;
  REQUIRE(calls.size() == 2);
  CHECK(calls[0].name == "weather");
  CHECK(Json::parse(calls[0].arguments) == Json{{"city", "Rome"}});
  CHECK(calls[1].name == "now");
  CHECK(Json::parse(calls[1].arguments) == Json::object());
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::tool_calls);
  for (const ToolCall& call : calls) {
    CHECK(call.id.size() == 5 + 24);
    CHECK(call.id.rfind("call_", 0) == 0);
    CHECK(std::all_of(call.id.begin() + 5, call.id.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c));
    }));
  }
  CHECK(calls[0].id != calls[1].id);
  CHECK(f.answer(with_tools())->choice().calls[0].id != calls[0].id);
}

TEST_CASE("answers: arguments are told as they are generated") {
  Fixture f(call_of("weather", R"({"city": "Rome"})").c_str());
  f.scripted.hold_steps();
  const auto job = f.start(with_tools());
  REQUIRE(f.until([&] { return f.scripted.active() == 1; }));
  std::string told;
  for (int i = 0; i < 80 && told.find("Ro") == std::string::npos; ++i) {
    f.step();
    told = job->choice().calls.empty() ? "" : job->choice().calls[0].arguments;
  }
  CHECK(told.find("Ro") != std::string::npos);
  CHECK(told.find("Rome") == std::string::npos);
  CHECK(!job->choice().end);
  f.scripted.release_steps();
  REQUIRE(f.until([&] { return job->over(); }));
}

TEST_CASE("answers: a call that is cut short has arguments that are JSON") {
  Fixture f(call_of("weather", R"({"city": "Rome"})").c_str());
  Job job = with_tools();
  job.max_tokens = 50;
  const auto done = f.answer(job);
  REQUIRE(done->choice().calls.size() == 1);
  CHECK(Json::parse(done->choice().calls[0].arguments).is_object());
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::length);
}

TEST_CASE("answers: without tools a call's marks are content") {
  const std::string answer = call_of("now", "{}");
  Fixture f(answer.c_str());
  const auto done = f.answer(Fixture::chat("Hi"));
  CHECK(done->choice().calls.empty());
  CHECK(done->choice().content == answer);
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::stop);
  CHECK(options_of(f).constraint.kind == Constraint::Kind::none);
}

TEST_CASE(
    "answers: a grammar sees to it that calls are as they were asked for") {
  Fixture f("ok");
  Job strict = with_tools();
  std::get<Conversation>(strict.prompt).tools[0].strict = true;
  f.answer(strict);
  const std::string automatic = options_of(f).constraint.source;
  CHECK(options_of(f).constraint.kind == Constraint::Kind::lark);
  CHECK(
      f.scripted.requests().back().prompt.find("\"weather\"") !=
      std::string::npos);

  Job job = with_tools();
  job.tool_choice.kind = ToolChoice::Kind::required;
  f.answer(job);
  const std::string required = options_of(f).constraint.source;
  CHECK(required != automatic);
  CHECK(required.find("weather") != std::string::npos);
  CHECK(required.find("now") != std::string::npos);
  job.tool_choice.parallel = false;
  f.answer(job);
  CHECK(options_of(f).constraint.source != required);

  job.tool_choice = {ToolChoice::Kind::named, "now"};
  f.answer(job);
  const std::string named = options_of(f).constraint.source;
  CHECK(named.find("now") != std::string::npos);
  CHECK(named.find("weather") == std::string::npos);
  // All are in the prompt, so that it begins as before.
  CHECK(
      f.scripted.requests().back().prompt.find("\"weather\"") !=
      std::string::npos);
}

TEST_CASE("answers: tools that may not be called are not called") {
  Fixture f(call_of("now", "{}").c_str());
  Job job = with_tools();
  job.tool_choice.kind = ToolChoice::Kind::none;
  const auto done = f.answer(job);
  CHECK(done->choice().calls.empty());
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::stop);
  const GenerationOptions options = options_of(f);
  CHECK(options.constraint.kind == Constraint::Kind::none);
  const TokenId mark = ScriptedText().encode("<tool_call>", false)[0];
  REQUIRE(options.sampling.logit_bias.size() == 1);
  CHECK(options.sampling.logit_bias[0].id == mark);
  CHECK(options.sampling.logit_bias[0].bias < -1000);
  // The model knows of them, so that the prompt begins as before.
  CHECK(
      f.scripted.requests().back().prompt.find("\"now\"") != std::string::npos);
}

TEST_CASE("answers: a mark of many tokens is forbidden by a grammar") {
  // This form's mark is none of the scripted model's tokens.
  const auto form = parse::find_tool_form(ScriptedText().template_source());
  REQUIRE(form);
  class SpelledForm : public parse::ToolForm {
   public:
    explicit SpelledForm(const parse::ToolForm& form) : form_(form) {}
    std::string_view name() const override {
      return form_.name();
    }
    std::string_view opening_mark() const override {
      return "<call>";
    }
    std::string_view closing_mark() const override {
      return form_.closing_mark();
    }
    bool is_taught_by(std::string_view chat_template) const override {
      return form_.is_taught_by(chat_template);
    }
    std::unique_ptr<parse::ToolCallParser> make_parser(
        std::span<const parse::ToolSignature> tools) const override {
      return form_.make_parser(tools);
    }
    std::string grammar(
        std::string_view rule,
        std::span<const parse::ToolSignature> tools) const override {
      return form_.grammar(rule, tools);
    }

   private:
    const parse::ToolForm& form_;
  };
  const SpelledForm spelled(*form);
  Scripted scripted;
  const auto engine = scripted.open({});
  Prompt prompt;
  prompt.room = 100;
  prompt.form.tools = &spelled;
  prompt.tools = {{"now", "", false}};
  Job job = with_tools();
  CHECK(
      answer_options(job, prompt, *engine).constraint.kind ==
      Constraint::Kind::none);
  job.tool_choice.kind = ToolChoice::Kind::none;
  const GenerationOptions options = answer_options(job, prompt, *engine);
  CHECK(options.sampling.logit_bias.empty());
  CHECK(options.constraint.kind == Constraint::Kind::lark);
  CHECK(options.constraint.source.find("<call>") != std::string::npos);
  // What the request asks for is no call, and goes before.
  job.constraint = {Constraint::Kind::regex, "yes|no"};
  CHECK(answer_options(job, prompt, *engine).constraint.source == "yes|no");
}

TEST_CASE("answers: what cannot be compiled is told before anything else") {
  ScriptedSetup setup;
  setup.check = [](const Constraint& constraint) {
    for (const char* bad : {"minContains", "uniqueItems"}) {
      if (constraint.source.find(bad) != std::string::npos) {
        throw Error(
            ErrorCode::invalid_argument,
            std::string("[grammar] cannot enforce ") + bad);
      }
    }
  };
  Fixture f(setup);
  Job job = with_tools();
  job.constraint_field = "response_format";
  const auto wrong = [&]() -> ApiError {
    const auto done = f.answer(job);
    REQUIRE(done->error);
    CHECK(done->calls == std::vector<std::string>{"error"});
    CHECK(done->error->kind() == ApiErrorKind::invalid_request);
    const std::string what = done->error->what();
    CHECK(what.find(done->error->param + ": [grammar] cannot enforce ") == 0);
    return *done->error;
  };
  const Constraint schema{
      Constraint::Kind::json_schema, R"({"minContains":2})"};
  Tool& tool = std::get<Conversation>(job.prompt).tools[0];
  SUBCASE("of the answer") {
    job.constraint = schema;
    CHECK(wrong().param == "response_format");
  }
  SUBCASE("of the answer, without anything around it") {
    job.prompt = "text";
    job.constraint = schema;
    CHECK(wrong().param == "response_format");
  }
  SUBCASE("of a tool") {
    tool.strict = true;
    tool.parameters =
        R"({"type":"object","properties":{"a":{"uniqueItems":true}}})";
    CHECK(wrong().param == "tools");
    job.constraint = {Constraint::Kind::json_schema, "{}"};
    CHECK(wrong().param == "tools");
    job.constraint = schema; // both
    const ApiError error = wrong();
    CHECK(error.param == "response_format");
    CHECK(std::string(error.what()).find("minContains") != std::string::npos);
  }
  CHECK(f.scripted.requests().empty());
}

TEST_CASE("answers: that a compiler fails is not the request's mistake") {
  ScriptedSetup setup;
  setup.check = [](const Constraint&) {
    throw Error(ErrorCode::internal, "[grammar] a bug");
  };
  Fixture f(setup);
  Job job;
  job.prompt = "text";
  job.constraint = {Constraint::Kind::regex, "a"};
  const LogCapture log;
  CHECK(f.answer(job)->error->kind() == ApiErrorKind::internal);
}

TEST_CASE("answers: choices of tools that cannot be met are refused") {
  Fixture f;
  Job job = with_tools();
  job.tool_choice = {ToolChoice::Kind::named, "later"};
  CHECK(f.answer(job)->error->param == "tool_choice");
  job = Fixture::chat("Hi");
  job.tool_choice.kind = ToolChoice::Kind::required;
  CHECK(f.answer(job)->error->param == "tool_choice");
  CHECK(f.scripted.requests().empty());
}

TEST_CASE(
    "answers: a constraint is the engine's, or within what may be thought") {
  Fixture f("{}");
  const Constraint schema{
      Constraint::Kind::json_schema, R"({"type":"object"})"};
  Job job;
  job.prompt = "text";
  job.constraint = schema;
  f.answer(job);
  CHECK(options_of(f).constraint.kind == Constraint::Kind::json_schema);
  CHECK(options_of(f).constraint.source == schema.source);

  job = Fixture::chat("Hi");
  job.constraint = schema;
  f.answer(job);
  const std::string thinking = options_of(f).constraint.source;
  CHECK(options_of(f).constraint.kind == Constraint::Kind::lark);
  CHECK(thinking.find("think") != std::string::npos);

  // The template has closed its thoughts.
  std::get<Conversation>(job.prompt).thinking = false;
  f.answer(job);
  CHECK(options_of(f).constraint.kind == Constraint::Kind::json_schema);

  job = with_tools();
  job.constraint = schema;
  f.answer(job);
  CHECK(options_of(f).constraint.kind == Constraint::Kind::lark);
  CHECK(options_of(f).constraint.source.find("weather") != std::string::npos);
}

TEST_CASE("answers: what a job does not name is the model's default") {
  ScriptedSetup setup;
  setup.sampling.temperature = 0.5f;
  setup.sampling.top_k = 20;
  setup.sampling.top_p = 0.9f;
  setup.max_tokens = 7;
  Fixture f(setup);
  Job job = Fixture::chat("Hi");
  f.answer(job);
  GenerationOptions options = options_of(f);
  CHECK(options.sampling.temperature == 0.5f);
  CHECK(options.sampling.top_k == 20);
  CHECK(options.sampling.top_p == 0.9f);
  CHECK(options.max_tokens == 7);

  job.sampling = {1.5, 3, 0.5, 0.1, 1.1, 0.25, -0.5, {{65, 2}}, 99};
  job.max_tokens = 4;
  job.stop_strings = {"lo"};
  job.ignore_eos = true;
  f.answer(job);
  options = options_of(f);
  CHECK(options.sampling.temperature == 1.5f);
  CHECK(options.sampling.top_k == 3);
  CHECK(options.sampling.top_p == 0.5f);
  CHECK(options.sampling.min_p == 0.1f);
  CHECK(options.sampling.repetition_penalty == 1.1f);
  CHECK(options.sampling.presence_penalty == 0.25f);
  CHECK(options.sampling.frequency_penalty == -0.5f);
  REQUIRE(options.sampling.logit_bias.size() == 1);
  CHECK(options.sampling.logit_bias[0].id == 65);
  CHECK(options.sampling.seed == 99);
  CHECK(options.max_tokens == 4);
  CHECK(options.stop_strings == std::vector<std::string>{"lo"});
  CHECK(options.ignore_eos);
  CHECK(!options.logprobs);
}

TEST_CASE("answers: a bias for a token that there is not is named") {
  Fixture f;
  Job job = Fixture::chat("Hi");
  job.sampling.logit_bias = {{kScriptedVocab - 1, 1}};
  CHECK(f.answer(job)->usage);
  job.sampling.logit_bias.push_back({kScriptedVocab, 1});
  const auto done = f.answer(job);
  REQUIRE(done->error);
  CHECK(done->error->kind() == ApiErrorKind::invalid_request);
  CHECK(done->error->param == "logit_bias.262");
  CHECK(f.scripted.requests().size() == 1);
}

TEST_CASE("answers: an answer has the room that the context leaves") {
  ScriptedSetup setup;
  setup.context_tokens = 100;
  Fixture f(setup);
  Job job;
  job.prompt = std::string(60, 'x');
  f.answer(job);
  CHECK(options_of(f).max_tokens == 40);
  job.max_tokens = 1000;
  f.answer(job);
  CHECK(options_of(f).max_tokens == 40);
}

TEST_CASE("answers: max_tokens ends an answer, and none is none") {
  Fixture f("abcdef");
  Job job = Fixture::chat("Hi");
  job.max_tokens = 3;
  auto done = f.answer(job);
  CHECK(done->choice().content == "abc");
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::length);
  job.max_tokens = 0;
  job.choices = 2;
  done = f.answer(job);
  CHECK(
      done->calls ==
      std::vector<std::string>{"start", "end 0", "end 1", "end"});
  CHECK(done->choices[1].end->reason == ChoiceEnd::Reason::length);
  CHECK(done->usage->completion_tokens == 0);
  CHECK(f.scripted.requests().size() == 1);
  CHECK(f.is_idle());
}

TEST_CASE("answers: a stop string ends an answer and is told at its end") {
  Fixture f("one, two, three");
  Job job = Fixture::chat("Hi");
  job.stop_strings = {"four", ", th"};
  const auto done = f.answer(job);
  CHECK(done->choice().content == "one, two");
  CHECK(done->choice().end->reason == ChoiceEnd::Reason::stop);
  CHECK(done->choice().end->stop_string == ", th");
}

TEST_CASE("answers: tokens come with the text that they are") {
  Fixture f("He\xC3\xA9!");
  Job job = Fixture::chat("Hi");
  job.logprobs = true;
  job.top_logprobs = 2;
  const auto done = f.answer(job);
  const auto& parts = done->choice().parts;
  CHECK(bytes_of(parts) == "He\xC3\xA9!");
  REQUIRE(parts.size() >= 1);
  const TokenText& first = parts[0].tokens[0];
  CHECK(first.id == 'H');
  CHECK(first.bytes == "H");
  CHECK(first.logprob == scripted_logprob('H'));
  REQUIRE(first.top.size() == 2);
  CHECK(first.top[0].bytes == "H");
  CHECK(first.top[0].logprob == first.logprob);
  CHECK(first.top[1].bytes == "I");
  CHECK(first.top[1].logprob < first.logprob);
  // Of a character of two tokens both belong to the part that it is in.
  for (const AnswerPart& part : parts) {
    CHECK(bytes_of({part}) == part.text);
  }
}

TEST_CASE("answers: a part's tokens are its own, without marks") {
  Fixture f(("<think>\nSo.\n</think>\n\nth < b\n" +
             call_of("weather", R"({"city": "Rome"})"))
                .c_str());
  Job job = with_tools();
  job.logprobs = true;
  const auto done = f.answer(job);
  std::string reasoning;
  std::string content;
  for (const AnswerPart& part : done->choice().parts) {
    if (part.kind == AnswerPart::Kind::reasoning) {
      reasoning += bytes_of({part});
    } else if (part.kind == AnswerPart::Kind::content) {
      content += bytes_of({part});
    }
  }
  CHECK(reasoning == "So.");
  CHECK(content == "th < b");
  CHECK(done->choice().calls.size() == 1);
}

TEST_CASE("answers: tokens without a text are told with the last one") {
  Fixture f("ab<|im_start|>");
  Job job;
  job.prompt = "text";
  job.logprobs = true;
  CHECK(bytes_of(f.answer(job)->choice().parts) == "ab<|im_start|>");
  // But not those of a stop string, which is no part of the answer.
  job.stop_strings = {"b"};
  CHECK(bytes_of(f.answer(job)->choice().parts) == "a");
}

TEST_CASE("answers: the prompt's log-probabilities are there at the start") {
  Fixture f("ok");
  Job job;
  job.prompt = "abc";
  job.score_prompt = true;
  job.logprobs = true;
  job.top_logprobs = 2;
  const auto done = f.answer(job);
  const auto& prompt = done->start.prompt;
  REQUIRE(prompt.size() == 3);
  CHECK(prompt[0].bytes == "a");
  CHECK(prompt[0].logprob == 0);
  CHECK(prompt[0].top.empty());
  CHECK(prompt[1].bytes == "b");
  CHECK(prompt[1].logprob == scripted_logprob('b'));
  REQUIRE(prompt[2].top.size() == 2);
  CHECK(prompt[2].top[1].logprob == scripted_top('c', 2)[1].logprob);
  CHECK(done->choice().content == "ok");
  CHECK(f.is_idle());

  job.max_tokens = 0; // the prompt alone
  CHECK(f.answer(job)->start.prompt.size() == 3);
  job.prompt = "a"; // nothing to be scored
  CHECK(f.answer(job)->start.prompt.size() == 1);
}

TEST_CASE("answers: a score can be cancelled, and can fail") {
  Fixture f("ok");
  f.scripted.hold_steps();
  Job job;
  job.prompt = "abc";
  job.score_prompt = true;
  const auto started = f.start(job);
  REQUIRE(f.until([&] { return f.state_of_first() == "prompt"; }));
  started.generation->cancel();
  CHECK(f.is_idle());
  CHECK(started->calls.empty());

  // The engine's end is an error to who waits for a score.
  const auto second = f.start(job);
  REQUIRE(f.until([&] { return f.state_of_first() == "prompt"; }));
  SUBCASE("by cancel_all") {
    f.generations->cancel_all();
    CHECK(f.is_idle());
    CHECK(second->error);
  }
  SUBCASE("by the end of all") {
    f.generations.reset();
    CHECK(!second->over());
  }
}

TEST_CASE(
    "answers: a conversation that is sent back is the same tokens again") {
  // A model rarely writes JSON as a template does.
  const std::string answer =
      "Well.\n" + call_of("weather", R"({"city" :"Rome" })");
  ScriptedSetup setup;
  setup.script = [&](const ScriptedRequest& request) {
    return request.number == 0 ? answer : std::string("Sunny.");
  };
  Fixture f(setup);
  Job job = with_tools();
  const auto first = f.answer(job);
  auto& messages = std::get<Conversation>(job.prompt).messages;
  messages.push_back({"assistant", first->choice().content});
  messages.back().tool_calls = first->choice().calls;
  messages.push_back({"tool", "sunny"});
  SUBCASE("unchanged") {
    f.answer(job);
    const auto requests = f.scripted.requests();
    CHECK(
        requests[1].prompt ==
        requests[0].prompt + answer +
            "<|im_end|>\n<|im_start|>user\n<tool_response>\nsunny\n"
            "</tool_response><|im_end|>\n<|im_start|>assistant\n");
  }
  SUBCASE("with another argument it is another conversation") {
    messages[1].tool_calls[0].arguments = R"({"city":"Oslo"})";
    f.answer(job);
    const std::string prompt = f.scripted.requests()[1].prompt;
    CHECK(prompt.find(answer) == std::string::npos);
    CHECK(prompt.find("Oslo") != std::string::npos);
  }
  SUBCASE("another model has never said that") {
    job.model = "other";
    f.answer(job);
    CHECK(f.scripted.requests()[1].prompt.find(answer) == std::string::npos);
  }
}

TEST_CASE("answers: only what the model has ended is replayed") {
  const std::string answer = call_of("weather", R"({"city" :"Rome" })") + "\n";
  ScriptedSetup setup;
  setup.script = [&](const ScriptedRequest&) { return answer; };
  Fixture f(setup);
  Job job = with_tools();
  bool replayed = true;
  SUBCASE("by itself") {}
  SUBCASE("not by a limit") {
    job.max_tokens = 44; // all but the last mark
    replayed = false;
  }
  SUBCASE("not by a stop string") {
    job.stop_strings = {"\n</tool_call>"};
    replayed = false;
  }
  const auto first = f.answer(job);
  auto& messages = std::get<Conversation>(job.prompt).messages;
  messages.push_back({"assistant", first->choice().content});
  messages.back().tool_calls = first->choice().calls;
  messages.push_back({"tool", "sunny"});
  job.max_tokens.reset();
  job.stop_strings.clear();
  f.answer(job);
  const std::string prompt = f.scripted.requests()[1].prompt;
  CHECK((prompt.find(R"({"city" :"Rome" })") != std::string::npos) == replayed);
}
