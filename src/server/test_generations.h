// For tests of generations: a server without a network, with a scripted
// engine, and sinks that write down what they hear.
//
// Thread rule: one thread, which runs the loop.
#pragma once

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "server/generations.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

namespace mlx_flash::server {

class RecordingSink : public AnswerSink {
 public:
  // What came, in order: "start", "progress", "part 0", "end 0", "end",
  // "error"; the same in a row is written once.
  std::vector<std::string> calls;
  JobStart start;
  std::vector<PromptProgress> progress;
  struct Choice {
    std::string reasoning;
    std::string content;
    std::vector<ToolCall> calls;
    std::vector<AnswerPart> parts;
    std::optional<ChoiceEnd> end;
  };
  std::vector<Choice> choices = std::vector<Choice>(8);
  std::optional<Usage> usage;
  Timings timings;
  std::optional<ApiError> error;
  std::function<void()> at_start = [] {};
  std::function<void()> at_part = [] {};

  bool over() const {
    return usage.has_value() || error.has_value();
  }
  const Choice& choice() const {
    return choices[0];
  }

  void on_start(const JobStart& what) override {
    call("start");
    start = what;
    at_start();
  }
  void on_progress(const PromptProgress& what) override {
    call("progress");
    progress.push_back(what);
  }
  void on_part(size_t index, AnswerPart part) override {
    call("part " + std::to_string(index));
    Choice& to = choices.at(index);
    switch (part.kind) {
      case AnswerPart::Kind::reasoning:
        to.reasoning += part.text;
        break;
      case AnswerPart::Kind::content:
        to.content += part.text;
        break;
      case AnswerPart::Kind::tool_call:
        CHECK(part.call == to.calls.size());
        to.calls.push_back({part.call_id, part.call_name, {}});
        break;
      case AnswerPart::Kind::arguments:
        to.calls.at(part.call).arguments += part.text;
        break;
    }
    to.parts.push_back(std::move(part));
    at_part();
  }
  void on_choice_end(size_t index, const ChoiceEnd& end) override {
    call("end " + std::to_string(index));
    CHECK(!choices.at(index).end);
    choices.at(index).end = end;
  }
  void on_end(const Usage& what, const Timings& times) override {
    call("end");
    CHECK(!over());
    usage = what;
    timings = times;
  }
  void on_error(const ApiError& what) override {
    call("error");
    CHECK(!over());
    error = what;
  }

 private:
  void call(const std::string& name) {
    if (calls.empty() || calls.back() != name) {
      calls.push_back(name);
    }
  }
};

// A prompt of so many tokens, all in all.
inline Job prompt_of(size_t tokens) {
  Job job;
  job.request_id = "r1";
  job.prompt = std::vector<TokenId>(tokens, 'x');
  return job;
}

// What is logged while it is there.
class LogCapture {
 public:
  LogCapture() {
    before_.swap(log::logger().sinks());
    log::logger().sinks().push_back(
        std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
  }
  ~LogCapture() {
    log::logger().sinks().swap(before_);
  }
  std::string text() const {
    return text_.str();
  }

 private:
  std::ostringstream text_;
  std::vector<spdlog::sink_ptr> before_;
};

class GenerationsFixture {
 public:
  explicit GenerationsFixture(
      ScriptedSetup setup = {},
      const std::function<void(ServerOptions&)>& change = {})
      : scripted(std::move(setup)) {
    options = scripted_options(scripted);
    options.slow_seconds = 0;
    if (change) {
      change(options);
    }
    models.emplace(options, loop);
    generations.emplace(options, loop, workers, *models, metrics);
  }
  // A script that answers with this.
  explicit GenerationsFixture(
      const char* answer,
      const std::function<void(ServerOptions&)>& change = {})
      : GenerationsFixture(
            ScriptedSetup{[text = std::string(answer)](const ScriptedRequest&) {
              return text;
            }},
            change) {}
  ~GenerationsFixture() {
    scripted.release_loading();
    scripted.release_steps();
    generations.reset();
    models.reset();
  }

  static Job chat(const std::string& text) {
    Job job;
    job.request_id = "r1";
    job.prompt = Conversation{{{"user", text}}};
    return job;
  }

  struct Started {
    std::shared_ptr<RecordingSink> sink;
    std::shared_ptr<Generation> generation;
    const RecordingSink* operator->() const {
      return sink.get();
    }
  };
  Started start(Job job) {
    return start(std::move(job), std::make_shared<RecordingSink>());
  }
  Started start(Job job, std::shared_ptr<RecordingSink> sink) {
    const auto generation =
        generations->start(std::move(job), now_seconds(), sink);
    return {sink, generation};
  }
  // To the end.
  Started answer(Job job) {
    Started started = start(std::move(job));
    REQUIRE(until([&] { return started->over(); }));
    return started;
  }

  template <typename Done>
  bool until(const Done& done) {
    return loop.run_until(done);
  }
  // Lets so many steps be made, and what they tell arrive.
  void step(uint64_t count = 1) {
    scripted.let_steps(count);
    REQUIRE(until([&] { return scripted.steps_done(); }));
    loop.run();
  }
  // Nothing of any request is left anywhere.
  bool is_idle() {
    return until([&] {
      return generations->running() == 0 && scripted.active() == 0 &&
          scripted.sessions() == 0 && models->status().users == 0;
    });
  }
  std::string state_of_first() const {
    const auto list = generations->list();
    return list.empty() ? "" : list.front().state;
  }

  Scripted scripted;
  ManualLoop loop;
  LoopWorkers workers{loop};
  Metrics metrics;
  ServerOptions options;
  std::optional<ModelHost> models;
  std::optional<Generations> generations;
};

} // namespace mlx_flash::server
