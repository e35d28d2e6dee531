// mlx-flash plan: how the memory would be divided, without loading anything.
#include "base/error.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"

namespace mlx_flash::cli {

namespace {

class PlanCommand : public Command {
 public:
  const char* name() const override {
    return "plan";
  }
  const char* summary() const override {
    return "How memory would be divided, and whether it is enough";
  }
  const char* examples() const override {
    return "  mlx-flash plan MODEL\n"
           "  mlx-flash plan MODEL --memory 4GB --ctx 8192 --json\n";
  }
  void declare(Flags& flags) override {
    engine_.declare_model(flags);
    flags.group("Output");
    flags.toggle("--json", json_, "Print one JSON object");
    engine_.declare_plan(flags, "4096 at most");
  }
  int run() override;

 private:
  EngineFlags engine_;
  bool json_ = false;
};

std::string table(const Plan& plan) {
  std::string text = fmt::format(
      "{} ({}), {} of weights\n\n",
      plan.model,
      plan.model_type,
      format_bytes(plan.model_bytes));
  const auto row = [&](const std::string& name, const std::string& value) {
    text += fmt::format("{:<22} {:>10}\n", name, value);
  };
  for (const PlanAccount& account : plan.accounts) {
    row(account.name, format_bytes(account.bytes));
  }
  row("planned", format_bytes(plan.planned_bytes));
  row("budget", format_bytes(plan.budget_bytes));
  text += fmt::format(
      "\nThe budget comes from {}.\n"
      "Room for {} of {} experts, {} each; a token uses {} in each of {} "
      "layers.\n"
      "Room for {} tokens of context, {} prompt tokens in a step.\n"
      "{}: with this context {} is the least that works, and {} keeps every "
      "expert in memory.\n",
      plan.budget_source,
      plan.slots,
      plan.experts,
      format_bytes(plan.slot_bytes),
      plan.experts_per_token,
      plan.expert_layers,
      plan.context_tokens,
      plan.prefill_chunk,
      plan.fits ? "It fits" : "It does not fit",
      format_bytes(plan.smallest_budget_bytes),
      format_bytes(plan.full_budget_bytes));
  return text;
}

int PlanCommand::run() {
  const Plan plan = make_plan(engine_.options(0));
  print(json_ ? plan_json(plan) : table(plan));
  if (!plan.fits) {
    fail(
        ErrorCode::out_of_budget,
        "[plan] {} with {} tokens of context does not fit {} bytes; the "
        "smallest budget that works is {} bytes ({})",
        plan.model,
        plan.context_tokens,
        plan.budget_bytes,
        plan.smallest_budget_bytes,
        format_bytes(plan.smallest_budget_bytes));
  }
  return kExitOk;
}

} // namespace

std::unique_ptr<Command> make_plan_command() {
  return std::make_unique<PlanCommand>();
}

} // namespace mlx_flash::cli
