// A server without a model, for tests with real clients: the user's last
// message tells it what to answer.
//
//   SAY text            that text
//   THINK a | b         a as reasoning, then b
//   CALL name {...}     a call of a tool; further lines are further calls
//   TEXT text           before a CALL: content that comes first
//   COUNT n             n numbered words
//   FAIL n              fails instead of its token n
//   WAIT ms             begins later
//   CLOCK n ms          n tokens, each of them the time when it is made, in
//                       nanoseconds of CLOCK_MONOTONIC, so far apart
//   OPTIONS             what the engine was asked for, as JSON
//
// A prompt that is no conversation is such a message itself. A schema with
// "uncompilable" in it cannot be compiled. The arguments are
// the seconds between signs of life and a key. Prints its port, and ends with
// its input.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "server/server.h"
#include "server/test_scripted_engine.h"

namespace {

using namespace mlx_flash;
using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

// Of the last user's turn, where tools' results stand, too.
std::string last_user_text(const std::string& prompt) {
  const std::string begin = "<|im_start|>user\n";
  const size_t at = prompt.rfind(begin);
  if (at == std::string::npos) {
    return prompt;
  }
  const size_t from = at + begin.size();
  return prompt.substr(from, prompt.find("<|im_end|>", from) - from);
}

std::string call_text(const std::string& words) {
  const size_t space = std::min(words.find(' '), words.size());
  return "<tool_call>\n{\"name\": \"" + words.substr(0, space) +
      "\", \"arguments\": " + words.substr(space) + "}\n</tool_call>";
}

std::string think_text(const std::string& words) {
  const size_t bar = std::min(words.find(" | "), words.size());
  return "<think>\n" + words.substr(0, bar) + "\n</think>\n\n" +
      words.substr(std::min(bar + 3, words.size()));
}

std::string count_to(int n) {
  std::string text;
  for (int i = 1; i <= n; ++i) {
    text += (i > 1 ? " word" : "word") + std::to_string(i);
  }
  return text;
}

ScriptedAnswer fail_at(int token) {
  ScriptedAnswer answer = count_to(100);
  answer.fails_at = static_cast<size_t>(token);
  return answer;
}

std::string monotonic_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(now.tv_sec * 1'000'000'000LL + now.tv_nsec);
}

ScriptedAnswer tell_time(const std::string& words) {
  int left = 0;
  double apart = 0;
  std::istringstream(words) >> left >> apart;
  ScriptedAnswer answer = "";
  answer.next_piece = [left, apart]() mutable -> std::optional<std::string> {
    if (left-- <= 0) {
      return {};
    }
    std::this_thread::sleep_for(
        std::chrono::duration<double, std::milli>(apart));
    return monotonic_nanoseconds() + " ";
  };
  return answer;
}

const char* kind_name(Constraint::Kind kind) {
  switch (kind) {
    case Constraint::Kind::json_schema:
      return "json_schema";
    case Constraint::Kind::regex:
      return "regex";
    case Constraint::Kind::lark:
      return "lark";
    case Constraint::Kind::none:
      break;
  }
  return "none";
}

std::string options_text(const GenerationOptions& options) {
  const SamplingOptions& sampling = options.sampling;
  Json bias = Json::object();
  for (const LogitBias& each : sampling.logit_bias) {
    bias[std::to_string(each.id)] = each.bias;
  }
  return Json{
      {"temperature", sampling.temperature},
      {"top_k", sampling.top_k},
      {"top_p", sampling.top_p},
      {"min_p", sampling.min_p},
      {"repetition_penalty", sampling.repetition_penalty},
      {"presence_penalty", sampling.presence_penalty},
      {"frequency_penalty", sampling.frequency_penalty},
      {"logit_bias", bias},
      {"seed", sampling.seed},
      {"max_tokens", options.max_tokens},
      {"constraint", kind_name(options.constraint.kind)},
      {"constraint_source", options.constraint.source}}
      .dump();
}

ScriptedAnswer answer(const ScriptedRequest& request) {
  const std::string user = last_user_text(request.prompt);
  if (user.find("<tool_response>") != std::string::npos) {
    return "The tool has answered.";
  }
  std::istringstream lines(user);
  std::string line;
  std::string text;
  while (std::getline(lines, line)) {
    const size_t space = std::min(line.find(' '), line.size());
    const std::string word = line.substr(0, space);
    const std::string rest = line.substr(std::min(space + 1, line.size()));
    if (word == "SAY" || word == "TEXT") {
      text += rest;
    } else if (word == "THINK") {
      text += think_text(rest);
    } else if (word == "CALL") {
      text += (text.empty() ? "" : "\n") + call_text(rest);
    } else if (word == "COUNT") {
      text += count_to(std::atoi(rest.c_str()));
    } else if (word == "OPTIONS") {
      text += options_text(request.options);
    } else if (word == "FAIL") {
      return fail_at(std::atoi(rest.c_str()));
    } else if (word == "CLOCK") {
      return tell_time(rest);
    } else if (word == "WAIT") {
      std::this_thread::sleep_for(
          std::chrono::milliseconds(std::atoi(rest.c_str())));
    }
  }
  return text.empty() ? "Hello!" : text;
}

void check(const Constraint& constraint) {
  if (constraint.source.find("uncompilable") != std::string::npos) {
    throw Error(
        ErrorCode::invalid_argument,
        "[grammar] the keyword uncompilable cannot be enforced");
  }
}

} // namespace

int main(int argc, char** argv) {
  ScriptedSetup setup;
  setup.script = answer;
  setup.check = check;
  setup.context_tokens = 1 << 18;
  setup.model_context = setup.context_tokens;
  Scripted scripted(setup);
  ServerOptions options;
  options.port = 0;
  options.models = {{"scripted", {"gpt-4o"}, {}, scripted_form()}};
  if (argc > 1) {
    options.keep_alive_seconds = std::atof(argv[1]);
  }
  options.api_key = argc > 2 ? argv[2] : "";
  options.open_engine = [&](const EngineOptions& each) {
    return scripted.open(each);
  };
  Server server(std::move(options));
  server.start();
  std::printf("%d\n", server.port());
  std::fflush(stdout);
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  server.stop_now();
  server.wait();
  return 0;
}
