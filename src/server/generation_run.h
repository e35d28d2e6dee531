// One job on its way: has the prompt made by a worker, starts a session for
// each choice, and tells the sink what becomes of them. Which jobs there may be
// is up to generations.cpp.
//
// Thread rule: as JobRun.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "server/answer.h"
#include "server/generation_inbox.h"
#include "server/job_run.h"
#include "server/prompt.h"
#include "server/prompt_progress.h"

namespace mlx_flash::server {

class GenerationRun : public JobRun {
 public:
  // `over`: as JobRun.
  GenerationRun(
      std::shared_ptr<RunServices> services,
      Job job,
      double received,
      std::shared_ptr<AnswerSink> sink,
      Over over);

 private:
  struct Choice {
    std::optional<Answer> answer{};
    std::shared_ptr<Session> session{};
    double last_time = 0; // of a token
    bool ended = false;
  };

  std::function<void()> prepare(ModelLease& lease) override;
  void tell_error(const ApiError& error) override;
  std::vector<std::shared_ptr<Session>> close() override;
  Usage usage_so_far() const override;
  std::string_view prompt_text() const override;

  void take_prompt(
      std::shared_ptr<const Prompt> prompt,
      const GenerationOptions& options);
  void begin_score();
  void score(); // on the thread of scores
  void take_score(std::vector<TokenText> prompt);
  void announce(JobStart start);
  void start_choice(size_t index);
  void start_others();

  void take(size_t choice, const std::vector<GenerationEvent>& events);
  void take_progress(const GenerationProgress& progress, double time);
  void take_text(size_t choice, const GenerationEvent& event);
  void take_end(size_t choice, const GenerationEvent& event);
  void tell_parts(size_t choice, std::vector<AnswerPart> parts);
  void end_choice(size_t choice);
  void remember(const GenerationResult& result);

  Job job_;
  std::shared_ptr<AnswerSink> sink_; // null after the end

  std::shared_ptr<const Prompt> prompt_;
  GenerationOptions options_;
  // Taken by who begins to score and by close(): so that what is over is not
  // scored, and what is scored can be cancelled.
  std::mutex scoring_mutex_;
  std::shared_ptr<Session> scoring_;
  std::vector<Choice> choices_;
  size_t started_ = 0;
  PromptMeter meter_;
};

} // namespace mlx_flash::server
