// mlx-flash tokenize: the ids of a text, and the text of ids.
#include <optional>
#include <utility>

#include "base/error.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "mlx_flash/chat.h"

namespace mlx_flash::cli {

namespace {

class TokenizeCommand : public Command {
 public:
  const char* name() const override {
    return "tokenize";
  }
  const char* summary() const override {
    return "Token ids of a text, or the text of token ids";
  }
  const char* examples() const override {
    return "  mlx-flash tokenize MODEL \"Once upon a time\" --json\n"
           "  mlx-flash tokenize --tokenizer tokenizer.json --file a.txt\n"
           "  mlx-flash tokenize MODEL --decode --ids ids.json\n";
  }
  void declare(Flags& flags) override;
  int run() override;

 private:
  void resolve_positionals();
  std::unique_ptr<Text> open() const;
  std::string input_text() const;
  int encode(const Text& text) const;
  int decode(const Text& text) const;

  std::optional<std::string> model_;
  std::optional<std::string> input_;
  std::optional<std::string> tokenizer_file_;
  std::optional<std::string> text_file_;
  std::optional<std::string> ids_file_;
  bool decode_ = false;
  bool no_special_ = false;
  bool json_ = false;
};

void TokenizeCommand::declare(Flags& flags) {
  flags.positional(
      "MODEL", model_, "A model folder; left out with --tokenizer");
  flags.positional("TEXT", input_, "The text (default, or -: standard input)");
  flags.group("Input");
  flags.text(
      "--tokenizer", tokenizer_file_, "FILE", "A tokenizer.json, no model");
  flags.text("--file", text_file_, "FILE", "The text");
  flags.toggle("--decode", decode_, "From ids to text");
  flags.text(
      "--ids", ids_file_, "FILE", "With --decode: a JSON list of token ids");
  flags.toggle(
      "--no-special", no_special_, "Add none to a text, show none of ids");
  flags.group("Output");
  flags.toggle("--json", json_, "Print one JSON object");
}

// With --tokenizer there is no MODEL, so the first argument is the TEXT.
void TokenizeCommand::resolve_positionals() {
  if (tokenizer_file_ && input_) {
    fail(
        ErrorCode::invalid_argument,
        "[tokenize] give either MODEL or --tokenizer, and TEXT in quotes");
  }
  if (tokenizer_file_) {
    input_ = std::exchange(model_, std::nullopt);
  } else if (!model_) {
    fail(
        ErrorCode::invalid_argument,
        "[tokenize] MODEL or --tokenizer FILE is missing");
  }
  if (decode_ != ids_file_.has_value()) {
    fail(
        ErrorCode::invalid_argument,
        "[tokenize] --decode and --ids FILE go together");
  }
  if (input_.has_value() + text_file_.has_value() + ids_file_.has_value() > 1) {
    fail(
        ErrorCode::invalid_argument,
        "[tokenize] give only one of TEXT, --file and --ids");
  }
}

std::unique_ptr<Text> TokenizeCommand::open() const {
  return tokenizer_file_ ? Text::from_tokenizer(*tokenizer_file_)
                         : Text::from_model(*model_);
}

std::string TokenizeCommand::input_text() const {
  if (input_ && *input_ != "-") {
    return *input_;
  }
  if (!text_file_ && !input_ && stdin_is_terminal()) {
    fail(
        ErrorCode::invalid_argument,
        "[tokenize] TEXT is missing: give it in quotes, with --file, or pipe "
        "it in");
  }
  return read_input(text_file_.value_or("-"));
}

int TokenizeCommand::encode(const Text& text) const {
  const std::vector<TokenId> ids = text.encode(input_text(), !no_special_);
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const TokenId id : ids) {
    pieces.push_back(text.piece(id));
  }
  if (json_) {
    return print(tokens_json(ids, pieces));
  }
  std::string lines;
  for (size_t i = 0; i < ids.size(); ++i) {
    lines += fmt::format("{}\t{}\n", ids[i], pieces[i]);
  }
  return print(lines);
}

int TokenizeCommand::decode(const Text& text) const {
  const auto ids = parse_ids(read_input(*ids_file_), *ids_file_);
  const std::string result = text.decode(ids, no_special_);
  return print(json_ ? text_json(result) : result + "\n");
}

int TokenizeCommand::run() {
  resolve_positionals();
  const std::unique_ptr<Text> text = open();
  return decode_ ? decode(*text) : encode(*text);
}

} // namespace

std::unique_ptr<Command> make_tokenize_command() {
  return std::make_unique<TokenizeCommand>();
}

} // namespace mlx_flash::cli
