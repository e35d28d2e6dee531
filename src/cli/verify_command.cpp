// mlx-flash verify: streamed equals resident, shown on a model of the user's.
#include <optional>

#include "base/error.h"
#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "mlx_flash/verify.h"

namespace mlx_flash::cli {

namespace {

class VerifyCommand : public Command {
 public:
  const char* name() const override {
    return "verify";
  }
  const char* summary() const override {
    return "Check that streaming changes no result, bit for bit";
  }
  const char* examples() const override {
    return "  mlx-flash verify MODEL\n"
           "  mlx-flash verify MODEL --memory 4GB --write-checksums sums\n";
  }
  void declare(Flags& flags) override {
    engine_.declare_model(flags);
    flags.group("Output");
    flags.text(
        "--write-checksums",
        new_checksums_,
        "FILE",
        "Write checksums of all weights to a new file");
    flags.text(
        "--checksums",
        checksums_,
        "FILE",
        "Compare all weights with these checksums");
    engine_.declare_memory(flags);
    flags.group("Machine");
    engine_.declare_threads(flags);
  }
  int run() override;

 private:
  EngineFlags engine_;
  std::optional<std::string> new_checksums_;
  std::optional<std::string> checksums_;
};

int VerifyCommand::run() {
  EngineOptions options = engine_.options(0);
  int passed = 0;
  int failed = 0;
  Output output;
  const auto report = [&](const VerifyCase& result) {
    (result.passed ? passed : failed) += 1;
    output.write(fmt::format(
        "{} {}{}{}\n",
        result.passed ? "ok  " : "FAIL",
        result.what,
        result.detail.empty() ? "" : ": ",
        result.detail));
  };
  if (new_checksums_) {
    write_checksums(options, *new_checksums_);
    options.checksums = *new_checksums_;
    report({"checksums written to " + *new_checksums_, true, ""});
  }
  if (checksums_) {
    const std::string difference = compare_checksums(options, *checksums_);
    report(
        {"all weights against " + *checksums_, difference.empty(), difference});
  }
  verify_streaming(options, report);
  output.write(fmt::format("{} passed, {} failed\n", passed, failed));
  output.check();
  return failed == 0 ? kExitOk : kExitFailed;
}

} // namespace

std::unique_ptr<Command> make_verify_command() {
  return std::make_unique<VerifyCommand>();
}

} // namespace mlx_flash::cli
