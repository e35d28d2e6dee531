// mlx-flash template: what a chat template makes of a conversation.
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/iso_time.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "mlx_flash/chat.h"

namespace mlx_flash::cli {

namespace {

class TemplateCommand : public Command {
 public:
  const char* name() const override {
    return "template";
  }
  const char* summary() const override {
    return "The prompt that a chat template makes of a conversation";
  }
  const char* examples() const override {
    return "  mlx-flash template MODEL --context chat.json\n"
           "  mlx-flash template --template chat.jinja --context chat.json \\\n"
           "      --now 2024-07-26 --json\n\n"
           "chat.json holds the template's variables, such as\n"
           "  {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}],\n"
           "   \"add_generation_prompt\": true}\n"
           "With a MODEL its special tokens (bos_token, ...) are added.\n";
  }
  void declare(Flags& flags) override;
  int run() override;

 private:
  std::optional<std::string> model_;
  std::optional<std::string> template_file_;
  std::optional<std::string> context_file_;
  std::optional<std::string> now_;
  bool json_ = false;
};

void TemplateCommand::declare(Flags& flags) {
  flags.positional("MODEL", model_, "A model folder; left out with --template");
  flags.group("Input");
  flags.text(
      "--template", template_file_, "FILE", "A Jinja template, no model");
  flags.text("--context", context_file_, "FILE", "A JSON object of variables");
  flags.text(
      "--now",
      now_,
      "TIME",
      "Date, such as 2024-07-26T08:30:00 (default: now)");
  flags.group("Output");
  flags.toggle("--json", json_, "Print one JSON object");
}

int TemplateCommand::run() {
  if (model_.has_value() == template_file_.has_value()) {
    fail(
        ErrorCode::invalid_argument,
        "[template] give either MODEL or --template FILE");
  }
  if (!context_file_) {
    fail(
        ErrorCode::invalid_argument,
        "[template] --context FILE is missing: the template's variables");
  }
  const int64_t now = now_ ? parse_iso_time(*now_) : local_now_seconds();
  const std::string context = read_input(*context_file_);
  const std::string text = model_
      ? Text::from_model(*model_)->render_template(context, now)
      : render_template(read_input(*template_file_), context, now);
  return print(json_ ? text_json(text) : text + "\n");
}

} // namespace

std::unique_ptr<Command> make_template_command() {
  return std::make_unique<TemplateCommand>();
}

} // namespace mlx_flash::cli
