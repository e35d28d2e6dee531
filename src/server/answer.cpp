#include "server/answer.h"

#include <iterator>
#include <utility>

namespace mlx_flash::server {

namespace {

std::string bytes_of(const Text& text, TokenId id) {
  try {
    return text.has_tokenizer() ? text.bytes(id) : std::string();
  } catch (const Error&) {
    return {}; // a model may have more logits than its tokenizer has tokens
  }
}

std::vector<std::string> marks_of(const parse::AnswerForm& form) {
  std::vector<std::string> marks{form.think_open, form.think_close};
  if (form.tools) {
    marks.emplace_back(form.tools->opening_mark());
    marks.emplace_back(form.tools->closing_mark());
  }
  return marks;
}

} // namespace

TokenText describe_token(const Text& text, const ChosenToken& token) {
  TokenText result{token.id, bytes_of(text, token.id), token.logprob, {}};
  for (const TokenLogprob& each : token.top) {
    result.top.push_back({each.id, bytes_of(text, each.id), each.logprob, {}});
  }
  return result;
}

Answer::Answer(Setup setup) : setup_(std::move(setup)), random_(setup_.seed) {
  const Prompt& prompt = *setup_.prompt;
  if (prompt.is_conversation) {
    std::span<const parse::ToolSignature> tools;
    if (setup_.may_call_tools) {
      tools = prompt.tools;
    }
    parser_.emplace(prompt.form, tools, prompt.in_reasoning);
  }
  if (setup_.text) {
    tokens_.emplace(marks_of(prompt.form));
  }
}

std::vector<AnswerPart> Answer::push(
    std::string_view text,
    std::span<const ChosenToken> tokens) {
  // Those of calls are told to nobody, and arguments may be held back for long.
  if (tokens_ && !(parser_ && parser_->in_call())) {
    std::vector<TokenText> texts;
    for (const ChosenToken& token : tokens) {
      texts.push_back(describe_token(*setup_.text, token));
    }
    tokens_->push(text, std::move(texts));
  }
  const bool was_reasoning = parser_ && parser_->in_reasoning();
  if (parser_) {
    parser_->push(text, *this);
  } else {
    on_content(text);
  }
  end_.completion_tokens += tokens.size();
  if (was_reasoning || (parser_ && parser_->in_reasoning())) {
    end_.reasoning_tokens += tokens.size();
  }
  return std::exchange(parts_, {});
}

std::vector<AnswerPart> Answer::finish(const GenerationResult& result) {
  if (parser_) {
    parser_->finish(*this);
  } else if (tokens_ && result.stop_string.empty()) {
    // Some tokens have no text of their own, and nothing came behind them.
    auto left = tokens_->take_all();
    if (!left.empty()) {
      part_of(AnswerPart::Kind::content).tokens = std::move(left);
    }
  }
  end_.stop_string = result.stop_string;
  end_.completion_tokens = result.tokens.size();
  switch (result.finish_reason) {
    case FinishReason::stop:
      // A call that a stop string cut is not one to be made.
      end_.reason = calls_ > 0 && result.stop_string.empty()
          ? ChoiceEnd::Reason::tool_calls
          : ChoiceEnd::Reason::stop;
      break;
    case FinishReason::length:
      end_.reason = ChoiceEnd::Reason::length;
      break;
    case FinishReason::cancelled:
      end_.reason = ChoiceEnd::Reason::cancelled;
      break;
  }
  return std::exchange(parts_, {});
}

void Answer::on_reasoning(std::string_view text) {
  if (!setup_.prompt->tells_reasoning) {
    if (tokens_) {
      tokens_->take(text);
    }
    return;
  }
  add_text(AnswerPart::Kind::reasoning, text);
}

void Answer::on_content(std::string_view text) {
  add_text(AnswerPart::Kind::content, text);
}

void Answer::on_call(std::string_view name) {
  AnswerPart part;
  part.kind = AnswerPart::Kind::tool_call;
  part.call = calls_++;
  part.call_id = new_call_id();
  part.call_name = name;
  parts_.push_back(std::move(part));
  if (tokens_) {
    tokens_->take_all();
  }
}

void Answer::on_arguments(std::string_view json_part) {
  part_of(AnswerPart::Kind::arguments).text += json_part;
}

void Answer::add_text(AnswerPart::Kind kind, std::string_view text) {
  if (text.empty()) {
    return;
  }
  AnswerPart& part = part_of(kind);
  part.text += text;
  if (tokens_) {
    auto more = tokens_->take(text);
    part.tokens.insert(
        part.tokens.end(),
        std::make_move_iterator(more.begin()),
        std::make_move_iterator(more.end()));
  }
}

// The last one, if it is of that kind and so can be added to.
AnswerPart& Answer::part_of(AnswerPart::Kind kind) {
  const size_t call = calls_ > 0 ? calls_ - 1 : 0;
  const bool arguments = kind == AnswerPart::Kind::arguments;
  if (parts_.empty() || parts_.back().kind != kind ||
      (arguments && parts_.back().call != call)) {
    AnswerPart part;
    part.kind = kind;
    part.call = arguments ? call : 0;
    parts_.push_back(std::move(part));
  }
  return parts_.back();
}

std::string Answer::new_call_id() {
  constexpr std::string_view kLetters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id = "call_";
  for (int i = 0; i < 24; ++i) {
    id += kLetters[random_.below(kLetters.size())];
  }
  return id;
}

} // namespace mlx_flash::server
