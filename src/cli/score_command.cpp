// mlx-flash score: how probable a model finds a text, token by token.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/status_line.h"

namespace mlx_flash::cli {

namespace {

class ScoreCommand : public Command {
 public:
  const char* name() const override {
    return "score";
  }
  const char* summary() const override {
    return "Perplexity and token log-probabilities of a text";
  }
  const char* examples() const override {
    return "  mlx-flash score MODEL --text story.txt\n"
           "  mlx-flash score MODEL --ids ids.json --top 5 --json\n";
  }
  void declare(Flags& flags) override;
  int run() override;

 private:
  void check() const;
  std::vector<TokenId> read_ids(const Text* text) const;
  void write_table(const ScoreResult& result, const Text& text, Output& output)
      const;

  EngineFlags engine_;
  std::optional<std::string> text_file_;
  std::optional<std::string> ids_file_;
  std::optional<uint64_t> top_;
  bool json_ = false;
};

void ScoreCommand::declare(Flags& flags) {
  engine_.declare_model(flags);
  flags.group("Text");
  flags.text(
      "--text",
      text_file_,
      "FILE",
      "The text, to its last byte; - is standard input");
  flags.text(
      "--ids", ids_file_, "FILE", "The text as a JSON list of token ids");
  flags.count(
      "--top", top_, 1, 1000, "List so many of the best at each position");
  flags.toggle("--json", json_, "Print one JSON object");
  engine_.declare_all(flags);
}

void ScoreCommand::check() const {
  engine_.model();
  if (text_file_.has_value() == ids_file_.has_value()) {
    fail(
        ErrorCode::invalid_argument,
        "[score] give either --text FILE or --ids FILE");
  }
}

// `text` is the model's, null when ids are given.
std::vector<TokenId> ScoreCommand::read_ids(const Text* text) const {
  const std::string input = read_input(ids_file_ ? *ids_file_ : *text_file_);
  const std::vector<TokenId> ids =
      ids_file_ ? parse_ids(input, *ids_file_) : text->encode(input, true);
  if (ids.size() < 2) {
    fail(
        ErrorCode::invalid_argument,
        "[score] {} has {} tokens; a score needs at least 2",
        ids_file_ ? *ids_file_ : *text_file_,
        ids.size());
  }
  return ids;
}

// Line by line: with many candidates the whole would be large.
void ScoreCommand::write_table(
    const ScoreResult& result,
    const Text& text,
    Output& output) const {
  const auto piece = [&text](TokenId id) {
    return text.has_tokenizer() ? text.piece(id) : std::to_string(id);
  };
  for (size_t i = 0; i < result.top.size(); ++i) {
    std::string line = fmt::format(
        "{:>6}  {:<16} {:>9.4f}  best:",
        i + 1,
        piece(result.ids[i + 1]),
        result.logprobs[i]);
    for (const auto& candidate : result.top[i]) {
      line += fmt::format(" {} {:.4f}", piece(candidate.id), candidate.logprob);
    }
    output.write(line + "\n");
  }
  output.write(fmt::format(
      "perplexity {:.4f} over {} tokens\n",
      result.perplexity,
      result.logprobs.size()));
}

int ScoreCommand::run() {
  check();
  std::shared_ptr<const Text> text;
  if (text_file_) {
    text = Text::from_model(engine_.model());
  }
  const std::vector<TokenId> ids = read_ids(text.get());
  EngineOptions options = engine_.options(ids.size());
  options.text = std::move(text); // loaded once, for both
  options.result_bytes = ids.size() * top_.value_or(0) * sizeof(TokenLogprob);
  const auto engine = Engine::open(options);
  ScoreResult result;
  {
    const StatusLine status(!engine_.quiet(), StatusLine::Place::in_line, [&] {
      return prefill_line(engine->stats(), ids.size());
    });
    result =
        engine->new_session()->score(ids, static_cast<int>(top_.value_or(0)));
  }
  Output output;
  if (json_) {
    score_json(result, engine->stats(), [&](const std::string& part) {
      output.write(part);
    });
  } else {
    write_table(result, engine->text(), output);
  }
  output.check();
  return kExitOk;
}

} // namespace

std::unique_ptr<Command> make_score_command() {
  return std::make_unique<ScoreCommand>();
}

} // namespace mlx_flash::cli
