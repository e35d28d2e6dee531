// mlx-flash run: one answer, streamed as it comes.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/input.h"
#include "cli/interrupts.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sampling_flags.h"
#include "cli/status_line.h"

namespace mlx_flash::cli {

namespace {

class RunCommand : public Command {
 public:
  const char* name() const override {
    return "run";
  }
  const char* summary() const override {
    return "Answer a prompt with a model, text on standard output";
  }
  const char* examples() const override {
    return "  mlx-flash run models/tiny-tales-moe \"Tell me a story.\"\n"
           "  mlx-flash run MODEL --memory 4GB --temp 0 \"Hello\"\n"
           "  echo \"Once upon a time\" | mlx-flash run MODEL --raw\n"
           "  mlx-flash run MODEL --ids ids.json --json --max-tokens 64\n";
  }
  void declare(Flags& flags) override;
  int run() override;

 private:
  struct Answer {
    GenerationOptions options;
    GenerationResult result;
    Stats stats;
  };

  void check();
  std::vector<TokenId> prompt_ids(const Text* text) const;
  std::string prompt_text() const;
  void check_vocabulary(std::span<const TokenId> ids, uint64_t size) const;
  Answer generate(
      Engine& engine,
      std::span<const TokenId> prompt,
      Interrupts& interrupts,
      Output& output) const;
  int finish(const Answer& answer, Output& output);
  void note(const std::string& line) const;

  EngineFlags engine_;
  SamplingFlags sampling_;
  std::optional<std::string> prompt_;
  std::optional<std::string> ids_file_;
  std::optional<std::string> system_;
  std::optional<std::string> stats_path_;
  std::optional<OutputFile> stats_file_;
  bool raw_ = false;
  bool json_ = false;
};

void RunCommand::declare(Flags& flags) {
  engine_.declare_model(flags);
  flags.positional(
      "PROMPT", prompt_, "Text to answer (default, or -: standard input)");
  flags.group("Prompt");
  flags.text(
      "--ids", ids_file_, "FILE", "The prompt as a JSON list of token ids");
  flags.toggle("--raw", raw_, "Continue the text, without the chat template");
  flags.text("--system", system_, "TEXT", "A system message before the prompt");
  flags.toggle("--json", json_, "Print one JSON object at the end");
  flags.text(
      "--stats",
      stats_path_,
      "FILE",
      "Write that object to FILE, text as usual");
  sampling_.declare(flags);
  engine_.declare_all(flags);
}

void RunCommand::check() {
  engine_.model();
  if (ids_file_ && prompt_) {
    fail(
        ErrorCode::invalid_argument,
        "[run] both --ids and a PROMPT are given; leave one out");
  }
  if (system_ && (raw_ || ids_file_)) {
    fail(
        ErrorCode::invalid_argument,
        "[run] --system needs the chat template, which --{} leaves out",
        raw_ ? "raw" : "ids");
  }
  if (!ids_file_ && !prompt_ && stdin_is_terminal()) {
    fail(
        ErrorCode::invalid_argument,
        "[run] PROMPT is missing: give it in quotes or pipe it in");
  }
  if (sampling_.reads_stdin() &&
      (ids_file_ ? *ids_file_ == "-" : prompt_.value_or("-") == "-")) {
    fail(
        ErrorCode::invalid_argument,
        "[run] --json-schema - and the prompt would both come from standard "
        "input; give one of them as a file or an argument");
  }
  // Wrong values are told before a model is loaded for them.
  sampling_.check();
  if (stats_path_) {
    stats_file_.emplace(*stats_path_);
  }
}

std::string RunCommand::prompt_text() const {
  if (prompt_ && *prompt_ != "-") {
    return *prompt_;
  }
  // The newline that `echo` and editors end a text with is not part of it.
  std::string text = read_input("-");
  if (text.ends_with('\n')) {
    text.pop_back();
  }
  if (text.ends_with('\r')) {
    text.pop_back();
  }
  return text;
}

// `text` is the model's, null when ids are given.
std::vector<TokenId> RunCommand::prompt_ids(const Text* text) const {
  std::vector<TokenId> ids;
  if (ids_file_) {
    ids = parse_ids(read_input(*ids_file_), *ids_file_);
  } else {
    const std::string prompt = prompt_text();
    if (prompt.empty()) {
      fail(ErrorCode::invalid_argument, "[run] the prompt is empty");
    }
    if (raw_) {
      ids = text->encode(prompt, true);
    } else {
      std::vector<Message> messages;
      if (system_) {
        messages.push_back({"system", *system_});
      }
      messages.push_back({"user", prompt});
      ids = text->encode(text->render_chat(messages), false);
    }
  }
  if (ids.empty()) {
    fail(ErrorCode::invalid_argument, "[run] the prompt is empty");
  }
  return ids;
}

void RunCommand::check_vocabulary(std::span<const TokenId> ids, uint64_t size)
    const {
  const auto bad = std::find_if(
      ids.begin(), ids.end(), [size](TokenId id) { return id >= size; });
  if (bad != ids.end()) {
    fail(
        ErrorCode::invalid_argument,
        "[ids] {} has {} at index {}, outside the model's vocabulary of {}",
        ids_file_.value_or("the prompt"),
        *bad,
        bad - ids.begin(),
        size);
  }
}

void RunCommand::note(const std::string& line) const {
  if (!engine_.quiet()) {
    print_error(line + "\n");
  }
}

int RunCommand::run() {
  check();
  Interrupts interrupts;
  std::shared_ptr<const Text> text;
  if (!ids_file_) {
    text = Text::from_model(engine_.model());
  }
  if (text && !text->has_tokenizer()) {
    fail(
        ErrorCode::invalid_argument,
        "[run] {} has no tokenizer.json, so it takes no text; give token ids "
        "with --ids, and --json to see what comes",
        engine_.model());
  }
  const std::vector<TokenId> prompt = prompt_ids(text.get());
  EngineOptions options =
      engine_.options(prompt.size() + sampling_.max_tokens());
  options.text = std::move(text); // loaded once, for both
  options.grammars = sampling_.constrains();
  std::unique_ptr<Engine> engine;
  {
    const StatusLine loading(!engine_.quiet(), StatusLine::Place::in_line, [&] {
      return "loading " + options.model.string();
    });
    engine = Engine::open(options);
  }
  check_vocabulary(prompt, engine->vocab_size());
  if (!json_ && !engine->text().has_tokenizer()) {
    fail(
        ErrorCode::invalid_argument,
        "[run] {} has no tokenizer.json, so there is no text to show; --json "
        "prints the token ids",
        options.model.string());
  }
  Output output;
  const Answer answer = generate(*engine, prompt, interrupts, output);
  return finish(answer, output);
}

RunCommand::Answer RunCommand::generate(
    Engine& engine,
    std::span<const TokenId> prompt,
    Interrupts& interrupts,
    Output& output) const {
  Answer answer;
  answer.options =
      sampling_.options(engine.default_sampling(), engine.default_max_tokens());
  const auto session = engine.new_session();
  const Interrupts::Handler handler(interrupts, [&] { session->cancel(); });
  // Whoever has read this line can interrupt the answer in good order.
  note(loaded_line(engine.plan()));
  {
    const StatusLine status(
        !engine_.quiet(),
        json_ ? StatusLine::Place::in_line : StatusLine::Place::bottom_row,
        [&] {
          const Stats now = engine.stats();
          return now.decode_tokens > 0 ? decode_line(now, now.decode_tokens + 1)
                                       : prefill_line(now, prompt.size());
        });
    answer.result =
        session->generate(prompt, answer.options, [&](std::string_view text) {
          return json_ || output.write(text);
        });
    if (!json_) {
      output.end_line();
    }
  }
  answer.stats = engine.stats();
  return answer;
}

int RunCommand::finish(const Answer& answer, Output& output) {
  const std::string report =
      run_json(answer.result, answer.options.sampling.seed, answer.stats);
  if (json_) {
    output.write(report);
  }
  if (stats_file_) {
    stats_file_->write(report);
  }
  output.check();
  if (output.reader_gone()) {
    return kExitOk; // it has seen what it wanted
  }
  note(summary_line(answer.stats, answer.result.tokens.size()));
  if (answer.result.finish_reason == FinishReason::length) {
    const bool all = answer.result.tokens.size() >= answer.options.max_tokens;
    note(fmt::format(
        "cut off at {}{}",
        all ? fmt::format("--max-tokens {}", answer.options.max_tokens)
            : "the end of the context",
        sampling_.constrains() ? "; the JSON is not complete" : ""));
  }
  return answer.result.finish_reason == FinishReason::cancelled ? kExitCancelled
                                                                : kExitOk;
}

} // namespace

std::unique_ptr<Command> make_run_command() {
  return std::make_unique<RunCommand>();
}

} // namespace mlx_flash::cli
