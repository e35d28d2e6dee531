#include "server/api/openai_completions.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/openai_completions_answer.h"
#include "server/api/openai_inputs.h"
#include "server/api/routes.h"
#include "server/api/start_answer.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

// n, and best_of, which would have more answers made than are sent.
uint64_t read_answers(Fields& fields, const ServerLimits& limits) {
  const uint64_t n = read_choices(fields, limits);
  const auto best_of = fields.integer("best_of", 0, INT32_MAX);
  if (best_of && static_cast<uint64_t>(*best_of) != n) {
    fields.reject(
        "best_of",
        fmt::format("must be equal to n, which is {}: all are sent", n));
  }
  return n;
}

void read_logprobs(Fields& fields, Job& job) {
  const auto top = fields.integer("logprobs", 0, kMostTopLogprobs);
  job.logprobs = top.has_value();
  job.top_logprobs = static_cast<int>(top.value_or(0));
}

// What the jobs of all prompts have in common.
Job read_common(
    Fields& fields,
    const ServerLimits& limits,
    CompletionWishes& wishes) {
  Job job;
  job.model = fields.text("model", kMostNameBytes).value_or("");
  wishes.echo = fields.boolean("echo").value_or(false);
  job.sampling = read_sampling(fields, limits);
  // The API's own default. None at all are for reading the prompt alone.
  job.max_tokens =
      read_max_tokens(fields, limits, wishes.echo ? 0 : 1).value_or(16);
  job.stop_strings = read_stop_strings(fields, limits);
  job.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  read_constraint(fields, limits, job);
  job.choices = wishes.choices = read_answers(fields, limits);
  read_logprobs(fields, job);
  wishes.logprobs = job.logprobs;
  wishes.stream = read_stream_wishes(fields);
  return job;
}

std::shared_ptr<AnswerSink> make_sink(
    ApiContext& context,
    const CompletionForm& form,
    const std::shared_ptr<HttpExchange>& exchange) {
  if (!form.wishes.stream.stream) {
    return make_completion_collector(form, exchange);
  }
  return make_completion_stream(
      form,
      OpenAiStream::make(
          exchange, context.loop, context.options.keep_alive_seconds));
}

void handle_completions(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const ServerLimits& limits = context.options.limits;
  const HttpRequest& request = exchange->request();
  CompletionForm form;
  auto jobs = read_completion_request(
      parse_body(request.body, json_limits(limits)), limits, form.wishes);
  form.head = make_head("cmpl-", request.id, jobs[0].model);
  for (const Job& job : jobs) {
    const auto* text = std::get_if<std::string>(&job.prompt);
    form.prompts.push_back(text ? *text : std::string());
  }
  // An error of one prompt ends the others, too.
  const auto running = std::make_shared<RunningJobs>();
  exchange->on_disconnect([running] { running->cancel(); });
  const auto sinks = join_completions(
      form,
      make_sink(context, form, exchange),
      [weak = std::weak_ptr(running)] {
        if (const auto others = weak.lock()) {
          others->cancel();
        }
      });
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].request_id = request.id;
    start_answer(context, exchange, std::move(jobs[i]), sinks[i], *running);
  }
}

} // namespace

std::vector<Job> read_completion_request(
    const Json& body,
    const ServerLimits& limits,
    CompletionWishes& wishes) {
  Fields fields(body);
  const Job common = read_common(fields, limits, wishes);
  auto prompts = read_inputs(fields, "prompt", limits.choices);
  if (prompts.size() * wishes.choices > limits.choices) {
    fields.reject(
        "prompt",
        fmt::format(
            "times n must be at most {} answers, not {}",
            limits.choices,
            prompts.size() * wishes.choices));
  }
  fields.refuse("suffix", "is not supported", {"\"\""});
  accept_harmless(fields);
  fields.done();

  std::vector<Job> jobs;
  for (TextOrTokens& prompt : prompts) {
    Job& job = jobs.emplace_back(common);
    const bool tokens = std::holds_alternative<std::vector<TokenId>>(prompt);
    // The text of tokens comes with their log-probabilities.
    job.score_prompt = wishes.echo && (wishes.logprobs || tokens);
    std::visit([&](auto& value) { job.prompt = std::move(value); }, prompt);
  }
  return jobs;
}

std::vector<Route> openai_completions_routes() {
  return {
      {"POST", "/v1/completions", Dialect::openai, handle_completions, true}};
}

} // namespace mlx_flash::server
