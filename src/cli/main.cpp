// mlx-flash: finds the command, parses its flags, runs it, and maps errors to
// exit codes, once for all commands.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/build_facts.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/suggest.h"
#include "platform/memory_facts.h"

namespace mlx_flash::cli {

namespace {

std::vector<std::unique_ptr<Command>> make_commands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_run_command());
  commands.push_back(make_serve_command());
  commands.push_back(make_score_command());
  commands.push_back(make_plan_command());
  commands.push_back(make_tokenize_command());
  commands.push_back(make_template_command());
  commands.push_back(make_verify_command());
  commands.push_back(make_bench_command());
  return commands;
}

using Commands = std::vector<std::unique_ptr<Command>>;

std::string main_help(const Commands& commands) {
  std::string text =
      "mlx-flash runs language models that are larger than the memory they\n"
      "are given: experts stay on disk until they are needed.\n\n"
      "Usage: mlx-flash COMMAND [FLAGS]\n\nCommands:\n";
  for (const auto& command : commands) {
    text += fmt::format("  {:<10} {}\n", command->name(), command->summary());
  }
  text += fmt::format(
      "\nmlx-flash COMMAND --help shows a command's flags and examples;\n"
      "mlx-flash --version shows the version.\n\n{}\n",
      kExitCodeHelp);
  return text;
}

Command& find_command(const Commands& commands, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& command : commands) {
    names.emplace_back(command->name());
    if (name == command->name()) {
      return *command;
    }
  }
  const bool flag = name.starts_with('-');
  names.insert(names.end(), {"--help", "--version"});
  fail(
      ErrorCode::invalid_argument,
      "[flags] unknown {} '{}'.{} See mlx-flash --help",
      flag ? "flag" : "command",
      name,
      suggestion(name, names));
}

int run_command(Command& command, std::vector<std::string> arguments) {
  Flags flags(fmt::format("mlx-flash {}", command.name()), command.summary());
  command.declare(flags);
  if (!flags.parse(std::move(arguments))) {
    return print(flags.help(
        fmt::format("Examples:\n{}\n{}", command.examples(), kExitCodeHelp)));
  }
  return command.run();
}

int dispatch(std::vector<std::string> arguments) {
  const Commands commands = make_commands();
  if (arguments.empty()) {
    print_error(main_help(commands));
    return kExitUsage;
  }
  if (arguments[0] == "help" && arguments.size() > 1) {
    std::swap(arguments[0], arguments[1]); // help run: run --help
    arguments[1] = "--help";
  }
  // Without a command but with flags of a server, it is one.
  const bool serves = arguments[0].starts_with("--model") ||
      arguments[0].starts_with("--port") || arguments[0].starts_with("--host");
  if (serves) {
    arguments.insert(arguments.begin(), "serve");
  }
  const std::string name = arguments[0];
  if (name == "--help" || name == "-h" || name == "help") {
    return print(main_help(commands));
  }
  if (name == "--version") {
    const BuildFacts build = build_facts();
    return print(
        fmt::format("mlx-flash {} ({})\n", build.version, build.commit));
  }
  arguments.erase(arguments.begin());
  return run_command(find_command(commands, name), std::move(arguments));
}

// One line, whatever a message quotes.
int report(std::string message, int code) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  print_error(fmt::format("mlx-flash: {}\n", message));
  return code;
}

int guarded_main(std::vector<std::string> arguments) {
  try {
    return dispatch(std::move(arguments));
  } catch (const Error& e) {
    return report(e.what(), exit_code(e.code()));
  } catch (const std::bad_alloc&) {
    return report("[memory] the system refused more memory", kExitBudget);
  } catch (const std::exception& e) {
    return report(fmt::format("[internal] {}", e.what()), kExitFailed);
  }
}

// Where standard input, output or error is closed, the next file to be opened
// would take its place, and be read or written by mistake.
void open_standard_descriptors() {
  int descriptor = 0;
  do {
    descriptor = ::open("/dev/null", O_RDWR);
  } while (descriptor >= 0 && descriptor <= STDERR_FILENO);
  if (descriptor >= 0) {
    ::close(descriptor);
  }
}

void set_up_process() {
  open_standard_descriptors();
  configure_allocator();
  // A reader of our output that has gone is seen where we write.
  std::signal(SIGPIPE, SIG_IGN);
}

} // namespace

} // namespace mlx_flash::cli

int main(int argc, char** argv) {
  mlx_flash::cli::set_up_process();
  return mlx_flash::cli::guarded_main({argv + 1, argv + std::max(argc, 1)});
}
