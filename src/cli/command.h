// A subcommand of mlx-flash: one file each, found by main.cpp through the
// list of make_commands().
#pragma once

#include <memory>
#include <vector>

#include "cli/flags.h"

namespace mlx_flash::cli {

class Command {
 public:
  virtual ~Command() = default;

  virtual const char* name() const = 0;
  // One line for the list of commands.
  virtual const char* summary() const = 0;
  // Lines that can be typed, for --help.
  virtual const char* examples() const = 0;

  virtual void declare(Flags& flags) = 0;

  // After declare() and a parse. Returns the exit code; throws Error for what
  // main.cpp maps to one.
  virtual int run() = 0;
};

std::unique_ptr<Command> make_run_command();
std::unique_ptr<Command> make_serve_command();
std::unique_ptr<Command> make_score_command();
std::unique_ptr<Command> make_plan_command();
std::unique_ptr<Command> make_tokenize_command();
std::unique_ptr<Command> make_template_command();
std::unique_ptr<Command> make_verify_command();
std::unique_ptr<Command> make_bench_command();

} // namespace mlx_flash::cli
