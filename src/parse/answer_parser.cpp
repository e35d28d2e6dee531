#include "parse/answer_parser.h"

#include <algorithm>
#include <utility>

#include "parse/space.h"

namespace mlx_flash::parse {

namespace {

// Long pushes are read piece by piece, so that their cost is linear.
constexpr size_t kPieceBytes = 4096;

} // namespace

struct AnswerParser::State {
  State(
      const AnswerForm& answer_form,
      std::span<const ToolSignature> signatures,
      bool begins_in_reasoning)
      : form(answer_form),
        tools(signatures.begin(), signatures.end()),
        looks_for_calls(form.tools != nullptr && !tools.empty()),
        reasoning(begins_in_reasoning && !form.think_close.empty()) {
    after_mark = reasoning;
  }

  enum class Mark { none, think_open, think_close, call };
  struct Found {
    Mark mark = Mark::none;
    size_t size = 0;
    bool partial = false; // the text ends within a mark, or before one
  };

  void push(std::string_view text, AnswerEvents& events);
  void read_call(AnswerEvents& events);
  size_t read_piece(AnswerEvents& events);
  size_t skip_text(size_t at) const;
  Found find_mark(std::string_view text) const;
  void enter(Mark mark, std::string_view space, AnswerEvents& events);
  void end_call();
  void return_to_text(const std::string& rest);
  void tell(std::string_view text);
  void tell_space(std::string_view space);
  void flush(AnswerEvents& events);
  void finish(AnswerEvents& events);

  const AnswerForm& form;
  const std::vector<ToolSignature> tools;
  const bool looks_for_calls;
  bool reasoning;
  std::string pending; // what was not read yet
  std::string told; // what is certain and was not passed on yet
  bool after_mark = false; // and nothing was told since
  bool has_content = false;
  std::string gap; // behind the last content, if calls followed

  std::unique_ptr<ToolCallParser> call; // that is being read
  size_t calls = 0; // that there were
  std::string space_before_call;
  bool mark_before_call = false;
};

void AnswerParser::State::push(std::string_view text, AnswerEvents& events) {
  pending += text;
  while (!pending.empty()) {
    if (call) {
      read_call(events);
      continue;
    }
    const size_t read = read_piece(events);
    if (read == 0) {
      return;
    }
    pending.erase(0, read);
  }
}

// Returns how much of what is pending was read: up to a mark and with it, or
// up to what may become one.
size_t AnswerParser::State::read_piece(AnswerEvents& events) {
  const std::string_view text = pending;
  size_t at = 0;
  while (at < text.size()) {
    const size_t space = skip_text(at);
    tell(text.substr(at, space - at));
    size_t end = text.find_first_not_of(kSpaces, space);
    end = std::min({end, text.size(), space + kMostSpace});
    const std::string_view spaces = text.substr(space, end - space);
    if (spaces.size() == kMostSpace) {
      tell_space(spaces);
      at = end;
      continue;
    }
    const Found found = find_mark(text.substr(end));
    if (found.partial) {
      return space;
    }
    if (found.mark != Mark::none) {
      enter(found.mark, spaces, events);
      return end + found.size;
    }
    tell_space(spaces);
    tell(text.substr(end, 1)); // which begins no mark
    at = std::min(end + 1, text.size());
  }
  return at;
}

// From `at` to where white space or a mark may begin, or the end.
size_t AnswerParser::State::skip_text(size_t at) const {
  for (; at < pending.size() && !is_space(pending[at]); ++at) {
    const Found found = find_mark(std::string_view(pending).substr(at));
    if (found.partial || found.mark != Mark::none) {
      break;
    }
  }
  return at;
}

// The mark that `text` begins with. With no text left it may become any.
AnswerParser::State::Found AnswerParser::State::find_mark(
    std::string_view text) const {
  Found found;
  const auto look_for = [&](Mark mark, std::string_view spelling) {
    if (spelling.empty()) {
      return;
    }
    if (text.starts_with(spelling)) {
      found.mark = mark;
      found.size = spelling.size();
    } else if (spelling.starts_with(text)) {
      found.partial = true;
    }
  };
  if (reasoning) {
    look_for(Mark::think_close, form.think_close);
    if (after_mark) {
      // A model may repeat what the template has opened already.
      look_for(Mark::think_open, form.think_open);
    }
    return found;
  }
  if (!has_content && calls == 0) {
    look_for(Mark::think_open, form.think_open);
  }
  if (looks_for_calls && calls < kMostCalls) {
    look_for(Mark::call, form.tools->opening_mark());
  }
  return found;
}

void AnswerParser::State::enter(
    Mark mark,
    std::string_view space,
    AnswerEvents& events) {
  flush(events);
  if (mark == Mark::call) {
    call = form.tools->make_parser(tools);
    space_before_call = space;
    mark_before_call = after_mark;
  } else {
    reasoning = mark == Mark::think_open;
  }
  after_mark = true;
}

void AnswerParser::State::read_call(AnswerEvents& events) {
  pending.erase(0, call->push(pending, events));
  if (call->state() != ToolCallParser::State::reading) {
    end_call();
  }
}

void AnswerParser::State::end_call() {
  const std::unique_ptr<ToolCallParser> over = std::exchange(call, nullptr);
  if (over->state() == ToolCallParser::State::broken) {
    return_to_text(over->text());
  } else {
    ++calls;
    pending.insert(0, over->text());
    if (has_content && !mark_before_call) {
      gap = std::move(space_before_call);
    }
  }
}

// What began like a call was none: its mark and `rest` are content, but for
// what may begin a mark at the end of it.
void AnswerParser::State::return_to_text(const std::string& rest) {
  const std::string_view mark = form.tools->opening_mark();
  size_t kept = rest.size() - std::min(rest.size(), mark.size() - 1);
  while (!mark.starts_with(std::string_view(rest).substr(kept))) {
    ++kept;
  }
  while (kept > 0 && is_space(rest[kept - 1])) {
    --kept;
  }
  after_mark = mark_before_call;
  tell_space(space_before_call);
  tell(mark);
  tell(std::string_view(rest).substr(0, kept));
  pending.insert(0, rest, kept);
}

void AnswerParser::State::tell(std::string_view text) {
  if (!text.empty()) {
    told += std::exchange(gap, {});
    told += text;
    after_mark = false;
    has_content = has_content || !reasoning;
  }
}

// White space that no mark follows. Behind a mark, and before any content,
// only the blanks before the first line's text are of the text.
void AnswerParser::State::tell_space(std::string_view space) {
  const size_t line_end = space.rfind('\n');
  if (after_mark && !has_content && line_end != std::string_view::npos) {
    space.remove_prefix(line_end + 1);
  }
  tell(space);
}

void AnswerParser::State::flush(AnswerEvents& events) {
  if (told.empty()) {
    return;
  }
  if (reasoning) {
    events.on_reasoning(told);
  } else {
    events.on_content(told);
  }
  told.clear();
}

void AnswerParser::State::finish(AnswerEvents& events) {
  if (call) {
    call->finish(events);
    end_call();
  }
  const size_t end =
      std::min(pending.find_first_not_of(kSpaces), pending.size());
  if (!after_mark || end < pending.size()) {
    tell_space(std::string_view(pending).substr(0, end));
  }
  tell(std::string_view(pending).substr(end));
  pending.clear();
  flush(events);
}

AnswerParser::AnswerParser(
    const AnswerForm& form,
    std::span<const ToolSignature> tools,
    bool in_reasoning)
    : state_(std::make_unique<State>(form, tools, in_reasoning)) {}

AnswerParser::~AnswerParser() = default;

void AnswerParser::push(std::string_view text, AnswerEvents& events) {
  for (; !text.empty();
       text.remove_prefix(std::min(text.size(), kPieceBytes))) {
    state_->push(text.substr(0, kPieceBytes), events);
  }
  state_->flush(events);
}

void AnswerParser::finish(AnswerEvents& events) {
  state_->finish(events);
}

bool AnswerParser::in_reasoning() const {
  return state_->reasoning;
}

bool AnswerParser::in_call() const {
  return state_->call && state_->call->called();
}

} // namespace mlx_flash::parse
