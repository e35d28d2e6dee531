#include "server/answer_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>

#include "parse/answer_grammar.h"

namespace mlx_flash::server {

namespace {

using parse::AnswerWishes;

void set(float& to, const std::optional<double>& wish) {
  to = wish ? static_cast<float>(*wish) : to;
}

SamplingOptions sampling_of(const SamplingWishes& wishes, SamplingOptions o) {
  set(o.temperature, wishes.temperature);
  set(o.top_p, wishes.top_p);
  set(o.min_p, wishes.min_p);
  set(o.repetition_penalty, wishes.repetition_penalty);
  set(o.presence_penalty, wishes.presence_penalty);
  set(o.frequency_penalty, wishes.frequency_penalty);
  if (wishes.top_k) {
    o.top_k = static_cast<int>(std::clamp<int64_t>(*wishes.top_k, 0, INT_MAX));
  }
  if (!wishes.logit_bias.empty()) {
    o.logit_bias = wishes.logit_bias;
  }
  return o;
}

// The engine would fail the answer.
void check_bias(const SamplingWishes& wishes, const Engine& engine) {
  for (const LogitBias& each : wishes.logit_bias) {
    if (each.id >= engine.vocab_size()) {
      const std::string field = fmt::format("logit_bias.{}", each.id);
      throw invalid_field(
          field,
          fmt::format(
              "{} is for no token: this model's ids are below {}",
              field,
              engine.vocab_size()));
    }
  }
}

uint64_t
max_tokens_of(const Job& job, const Prompt& prompt, const Engine& engine) {
  const uint64_t usual = engine.default_max_tokens();
  const uint64_t wanted =
      job.max_tokens.value_or(usual > 0 ? usual : prompt.room);
  return std::min(wanted, prompt.room);
}

AnswerWishes::Content content_of(Constraint::Kind kind) {
  switch (kind) {
    case Constraint::Kind::json_schema:
      return AnswerWishes::Content::json_schema;
    case Constraint::Kind::regex:
      return AnswerWishes::Content::regex;
    case Constraint::Kind::lark:
      return AnswerWishes::Content::lark;
    case Constraint::Kind::none:
      break;
  }
  return AnswerWishes::Content::any;
}

// The tools of which one may be called. Throws ApiError for a choice that
// cannot be met.
std::vector<parse::ToolSignature> callable(
    const Job& job,
    const Prompt& prompt) {
  using Kind = ToolChoice::Kind;
  const ToolChoice& choice = job.tool_choice;
  const bool must = choice.kind == Kind::required || choice.kind == Kind::named;
  if (prompt.tools.empty() && must) {
    throw invalid_field(
        "tool_choice",
        "tool_choice asks for a call, but there are no tools; give some");
  }
  if (prompt.tools.empty() || choice.kind == Kind::none) {
    return {};
  }
  if (!prompt.form.tools) {
    throw invalid_field(
        "tools",
        "tools: the form in which this model writes calls is not known here; "
        "leave tools out, or serve a model of the Qwen3 family");
  }
  if (choice.kind != Kind::named) {
    return prompt.tools;
  }
  const auto named = std::find_if(
      prompt.tools.begin(), prompt.tools.end(), [&](const auto& tool) {
        return tool.name == choice.name;
      });
  if (named == prompt.tools.end()) {
    throw invalid_field(
        "tool_choice",
        "tool_choice names a tool that is not among tools; add it there");
  }
  return {*named};
}

// Reasoning and calls are around what a job asks for, so that a grammar of the
// whole answer is needed as soon as there are any.
Constraint constraint_of(const Job& job, const Prompt& prompt) {
  using Kind = ToolChoice::Kind;
  const auto tools = callable(job, prompt);
  if (tools.empty() && job.constraint.kind == Constraint::Kind::none) {
    return {};
  }
  if (tools.empty() && !prompt.in_reasoning && !prompt.may_reason) {
    return job.constraint;
  }
  AnswerWishes wishes;
  wishes.content = content_of(job.constraint.kind);
  wishes.source = job.constraint.source;
  wishes.tools = tools;
  wishes.calls = tools.empty()                  ? AnswerWishes::Calls::none
      : job.tool_choice.kind == Kind::automatic ? AnswerWishes::Calls::allowed
                                                : AnswerWishes::Calls::required;
  wishes.parallel_calls =
      job.tool_choice.parallel && job.tool_choice.kind != Kind::named;
  wishes.in_reasoning = prompt.in_reasoning;
  wishes.may_reason = prompt.may_reason;
  const std::string grammar = parse::answer_grammar(prompt.form, wishes);
  if (grammar.empty()) {
    return {};
  }
  return {Constraint::Kind::lark, grammar};
}

// The model is told of its tools even if it may not call any, so that the
// prompt begins like the one before; it is kept from beginning a call.
void forbid_calls(
    GenerationOptions& options,
    const Prompt& prompt,
    const Text& text) {
  constexpr float kNever = -10000;
  const auto mark =
      text.encode(std::string(prompt.form.tools->opening_mark()), false);
  if (mark.size() == 1) {
    options.sampling.logit_bias.push_back({mark[0], kNever});
    return;
  }
  // Its tokens are parts of other words too. Where the request itself says
  // what the answer has to be, that is not a call.
  if (options.constraint.kind == Constraint::Kind::none) {
    AnswerWishes wishes;
    wishes.tools = prompt.tools;
    wishes.calls = AnswerWishes::Calls::forbidden;
    options.constraint = {
        Constraint::Kind::lark, parse::answer_grammar(prompt.form, wishes)};
  }
}

bool forbids_calls(const Job& job, const Prompt& prompt) {
  return !prompt.tools.empty() && prompt.form.tools &&
      job.tool_choice.kind == ToolChoice::Kind::none;
}

ApiError invalid_constraint(const std::string& field, const Error& error) {
  return invalid_field(field, fmt::format("{}: {}", field, error.what()));
}

// Of which fields the grammar of an answer was made, and which one is wrong.
ApiError constraint_error(
    const Job& job,
    const Prompt& prompt,
    const Engine& engine,
    const Error& error) {
  if (error.code() != ErrorCode::invalid_argument &&
      error.code() != ErrorCode::unsupported) {
    return to_api_error(std::current_exception());
  }
  if (job.constraint.kind != Constraint::Kind::none) {
    try {
      engine.check(job.constraint);
    } catch (const Error& its_own) {
      return invalid_constraint(job.constraint_field, its_own);
    }
  }
  return invalid_constraint(
      prompt.tools.empty() ? job.constraint_field : "tools", error);
}

} // namespace

bool may_call_tools(const Job& job, const Prompt& prompt) {
  return !prompt.tools.empty() && prompt.form.tools != nullptr &&
      job.tool_choice.kind != ToolChoice::Kind::none;
}

GenerationOptions
answer_options(const Job& job, const Prompt& prompt, const Engine& engine) {
  GenerationOptions options;
  check_bias(job.sampling, engine);
  options.sampling = sampling_of(job.sampling, engine.default_sampling());
  options.max_tokens = max_tokens_of(job, prompt, engine);
  options.stop_strings = job.stop_strings;
  options.ignore_eos = job.ignore_eos;
  options.logprobs = job.logprobs;
  options.top_logprobs = job.logprobs ? job.top_logprobs : 0;
  try {
    options.constraint = constraint_of(job, prompt);
    if (forbids_calls(job, prompt)) {
      forbid_calls(options, prompt, engine.text());
    }
    if (options.constraint.kind != Constraint::Kind::none) {
      engine.check(options.constraint);
    }
  } catch (const Error& error) {
    throw constraint_error(job, prompt, engine, error);
  }
  return options;
}

} // namespace mlx_flash::server
