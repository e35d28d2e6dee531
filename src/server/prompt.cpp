#include "server/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace mlx_flash::server {

namespace {

bool ends_with_mark(std::string_view text, std::string_view mark) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  text = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
  return !mark.empty() && text.size() >= mark.size() &&
      text.substr(text.size() - mark.size()) == mark;
}

// What a template complains of is something about the messages.
std::string render(
    const Conversation& conversation,
    const JsonLimits& limits,
    const Text& text) {
  const std::string context = template_context(conversation, limits);
  try {
    return text.render_template(context, local_now_seconds());
  } catch (const Error& error) {
    const ApiError known = to_api_error(std::current_exception());
    throw known.kind() == ApiErrorKind::invalid_request ? known.at("messages")
                                                        : known;
  }
}

// A template that was told not to have the model think closes its thoughts.
bool may_reason(const Prompt& prompt) {
  return !prompt.in_reasoning && !prompt.form.think_open.empty() &&
      !ends_with_mark(prompt.text, prompt.form.think_close);
}

void check_ids(const std::vector<TokenId>& ids, const Engine& engine) {
  const auto wrong = std::find_if(ids.begin(), ids.end(), [&](TokenId id) {
    return id >= engine.vocab_size();
  });
  if (wrong != ids.end()) {
    const std::string field = fmt::format("prompt[{}]", wrong - ids.begin());
    throw invalid_field(
        field,
        fmt::format(
            "{} is {}, but this model's token ids are below {}",
            field,
            *wrong,
            engine.vocab_size()));
  }
}

// Throws what says how much too long the prompt is.
uint64_t room_behind(const Prompt& prompt, const Plan& plan) {
  const bool model_is_less =
      plan.model_context > 0 && plan.model_context <= plan.context_tokens;
  const uint64_t context =
      model_is_less ? plan.model_context : plan.context_tokens;
  const uint64_t length = prompt.tokens.size();
  if (length < context) {
    return context - length;
  }
  throw invalid_field(
      prompt.is_conversation ? "messages" : "prompt",
      fmt::format(
          "the prompt has {} tokens, but the context has room for {} with at "
          "least one token of an answer{}; shorten the prompt{}",
          length,
          context,
          model_is_less ? ", which is the model's own limit" : "",
          model_is_less ? "" : " or start the server with a larger --ctx"))
      .with_code("context_length_exceeded");
}

} // namespace

Prompt read_conversation(
    const Conversation& conversation,
    const JsonLimits& limits,
    const std::string& model,
    const Text& text,
    Replay& replay,
    const std::function<void()>& between) {
  Prompt prompt;
  prompt.is_conversation = true;
  prompt.form = parse::find_answer_form(text.template_source());
  for (const Tool& tool : conversation.tools) {
    prompt.tools.push_back({tool.name, tool.parameters, tool.strict});
  }
  prompt.text = render(conversation, limits, text);
  between();
  prompt.in_reasoning = parse::begins_in_reasoning(prompt.form, prompt.text);
  prompt.may_reason = may_reason(prompt);
  prompt.tells_reasoning = conversation.thinking.value_or(true);
  prompt.tokens =
      replay.encode(model, text, prompt.text, {prompt.form, prompt.tools});
  if (!prompt.in_reasoning && !prompt.may_reason) {
    // Marks of it mean nothing in this answer, whatever earlier ones had.
    prompt.form.think_open.clear();
    prompt.form.think_close.clear();
  }
  return prompt;
}

Prompt make_prompt(
    const Job& job,
    const JsonLimits& limits,
    const std::string& model,
    const Engine& engine,
    Replay& replay,
    const std::function<void()>& between) {
  Prompt prompt;
  if (const auto* conversation = std::get_if<Conversation>(&job.prompt)) {
    prompt = read_conversation(
        *conversation, limits, model, engine.text(), replay, between);
  } else if (const auto* text = std::get_if<std::string>(&job.prompt)) {
    prompt.text = *text;
    prompt.tokens = engine.text().encode(*text, true);
  } else {
    prompt.tokens = std::get<std::vector<TokenId>>(job.prompt);
    check_ids(prompt.tokens, engine);
  }
  if (prompt.tokens.empty()) {
    throw invalid_field("prompt", "prompt has no tokens; give at least one");
  }
  prompt.room = room_behind(prompt, engine.plan());
  return prompt;
}

} // namespace mlx_flash::server
