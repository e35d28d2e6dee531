// join_completions() of openai_completions_answer.h.
#include <algorithm>
#include <utility>

#include "server/api/openai_completions_answer.h"

namespace mlx_flash::server {

namespace {

// What the sinks of all prompts share.
struct Joined {
  const std::shared_ptr<AnswerSink> all;
  const std::function<void()> fail;
  size_t running = 0;
  bool started = false;
  bool failed = false;
  Usage usage{};
  Timings timings{};

  void add(const Usage& more, const Timings& times) {
    usage.prompt_tokens += more.prompt_tokens;
    usage.cached_tokens += more.cached_tokens;
    usage.completion_tokens += more.completion_tokens;
    usage.reasoning_tokens += more.reasoning_tokens;
    // They run side by side.
    const auto longest = [&](double Timings::* of) {
      timings.*of = std::max(timings.*of, times.*of);
    };
    longest(&Timings::load_seconds);
    longest(&Timings::queue_seconds);
    longest(&Timings::prompt_seconds);
    longest(&Timings::decode_seconds);
    longest(&Timings::total_seconds);
  }
};

class PromptSink : public AnswerSink {
 public:
  PromptSink(
      std::shared_ptr<Joined> joined,
      const CompletionForm& form,
      size_t prompt)
      : joined_(std::move(joined)),
        first_choice_(prompt * form.wishes.choices),
        choices_(form.wishes.choices),
        echo_(form.wishes.echo),
        prompt_(form.prompts[prompt]) {}

  // Each of its choices begins with the prompt.
  void on_scoring(uint64_t tokens, uint64_t candidates) override {
    if (!joined_->failed) {
      joined_->all->on_scoring(tokens * choices_, candidates);
    }
  }

  void on_start(const JobStart& start) override {
    if (joined_->failed) {
      return;
    }
    if (!std::exchange(joined_->started, true)) {
      joined_->all->on_start(start);
    }
    if (echo_) {
      AnswerPart part;
      part.text = prompt_.empty() ? text_of(start.prompt) : prompt_;
      part.tokens = start.prompt;
      for (size_t i = 0; i < choices_; ++i) {
        joined_->all->on_part(first_choice_ + i, part);
      }
    }
  }

  void on_progress(const PromptProgress& progress) override {
    if (!joined_->failed) {
      joined_->all->on_progress(progress);
    }
  }

  void on_part(size_t choice, AnswerPart part) override {
    if (!joined_->failed) {
      part.kind = AnswerPart::Kind::content; // there is nothing but text here
      joined_->all->on_part(first_choice_ + choice, std::move(part));
    }
  }

  void on_choice_end(size_t choice, const ChoiceEnd& end) override {
    if (!joined_->failed) {
      joined_->all->on_choice_end(first_choice_ + choice, end);
    }
  }

  void on_end(const Usage& usage, const Timings& timings) override {
    joined_->add(usage, timings);
    if (--joined_->running == 0 && !joined_->failed) {
      joined_->all->on_end(joined_->usage, joined_->timings);
    }
  }

  void on_error(const ApiError& error) override {
    if (!std::exchange(joined_->failed, true)) {
      // First, for after its end the exchange may let go of what runs.
      joined_->fail();
      joined_->all->on_error(error);
    }
  }

 private:
  static std::string text_of(const std::vector<TokenText>& tokens) {
    std::string text;
    for (const TokenText& token : tokens) {
      text += token.bytes;
    }
    return text;
  }

  const std::shared_ptr<Joined> joined_;
  const size_t first_choice_;
  const size_t choices_;
  const bool echo_;
  const std::string prompt_;
};

} // namespace

std::vector<std::shared_ptr<AnswerSink>> join_completions(
    const CompletionForm& form,
    std::shared_ptr<AnswerSink> all,
    std::function<void()> fail) {
  const std::shared_ptr<Joined> joined(
      new Joined{std::move(all), std::move(fail), form.prompts.size()});
  std::vector<std::shared_ptr<AnswerSink>> sinks;
  for (size_t i = 0; i < form.prompts.size(); ++i) {
    sinks.push_back(std::make_shared<PromptSink>(joined, form, i));
  }
  return sinks;
}

} // namespace mlx_flash::server
