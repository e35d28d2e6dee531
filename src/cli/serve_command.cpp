// mlx-flash serve: answers OpenAI, Anthropic and Ollama clients over HTTP.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>

#include "base/error.h"
#include "cli/build_facts.h"
#include "cli/command.h"
#include "cli/deadline.h"
#include "cli/engine_flags.h"
#include "cli/exit_code.h"
#include "cli/interrupts.h"
#include "cli/output.h"
#include "cli/serve_flags.h"
#include "mlx_flash/engine.h"
#include "server/server.h"
#include "server/server_memory.h"

namespace mlx_flash::cli {

namespace {

// Tokens of all conversations together, those included that are only kept to
// be gone on with.
constexpr uint64_t kContextWanted = 8192;

// Beyond what answers in progress have to end, for what is then still going
// on: a model may be being loaded, which nothing can cut short.
constexpr double kStopSeconds = 5;
constexpr double kStopNowSeconds = 1; // at the second signal

class ServeCommand : public Command {
 public:
  const char* name() const override {
    return "serve";
  }
  const char* summary() const override {
    return "Serve a model to OpenAI, Anthropic and Ollama clients";
  }
  const char* examples() const override {
    return "  mlx-flash serve models/tiny-tales-moe\n"
           "  mlx-flash serve MODEL --memory 6GB --ctx 32768 --port 8080\n"
           "  mlx-flash serve MODEL --host 0.0.0.0 --api-key-file key.txt\n"
           "  mlx-flash --model MODEL --port 8080\n";
  }

  void declare(Flags& flags) override {
    engine_.declare_model(flags);
    flags.text("--model", model_, "FOLDER", "The same as MODEL");
    serve_.declare(flags);
    engine_.declare_all(flags, "info"); // a line for each request
  }

  int run() override;

 private:
  std::vector<server::ServedModel> models() const;
  int serve(server::ServerOptions options) const;

  EngineFlags engine_;
  ServeFlags serve_;
  std::optional<std::string> model_;
};

// Clients name a model by its folder's name.
std::string served_name(const std::filesystem::path& folder) {
  auto path = std::filesystem::absolute(folder).lexically_normal();
  if (path.filename().empty()) {
    path = path.parent_path();
  }
  return path.filename().string();
}

std::vector<server::ServedModel> ServeCommand::models() const {
  EngineOptions options = engine_.options(kContextWanted);
  options.single_session = false;
  options.grammars = true;
  options.prefix_cache = options.device == Device::cpu;
  const BuildFacts build = build_facts();
  options.build = fmt::format(
      "{} {} {} {}", build.version, build.commit, build.type, build.compiler);
  serve_.set_prompt_cache(options);
  validate(options);
  std::vector<server::ServedModel> models{
      {served_name(options.model), serve_.aliases(), options}};
  for (const std::string& folder : serve_.more_models()) {
    options.model = folder;
    models.push_back({served_name(folder), {}, options});
  }
  for (server::ServedModel& each : models) {
    each.embedding = read_embedding_form(each.engine.model);
  }
  return models;
}

int ServeCommand::run() {
  engine_.set_model(model_);
  server::ServerOptions options = serve_.options();
  options.version = build_facts().version;
  options.models = models();
  options.open_engine = [](const EngineOptions& each) {
    return Engine::open(each);
  };
  uint64_t budget = UINT64_MAX;
  for (const server::ServedModel& each : options.models) {
    // Wrong folders and budgets are told now and not to the first client.
    budget = std::min(budget, make_plan(each.engine).budget_bytes);
  }
  options.limits = serve_.limits(server::scaled_limits({}, budget));
  return serve(std::move(options));
}

// Nothing is lost when the program ends in the middle: what is on disk was
// written as a whole or does not count.
void end_late() {
  print_error("mlx-flash: [server] stopping took too long; ended at once\n");
  end_program();
}

int ServeCommand::serve(server::ServerOptions options) const {
  const std::string name = options.models[0].name;
  const std::string host = options.host;
  const double drain_seconds = options.limits.drain_seconds;
  // Before any thread, so that all of them leave signals to it.
  Interrupts interrupts(Interrupts::Repeat::to_handler);
  Deadline deadline(end_late);
  server::Server server(std::move(options));
  std::atomic<int> signals{0};
  const Interrupts::Handler handler(interrupts, [&] {
    const bool first = signals++ == 0;
    deadline.set(first ? drain_seconds + kStopSeconds : kStopNowSeconds);
    first ? server.begin_drain() : server.stop_now();
  });
  server.start();
  if (!engine_.quiet()) {
    const bool six = host.find(':') != std::string::npos && host[0] != '[';
    print_error(fmt::format(
        "serving {} at http://{}{}{}:{} (Control-C stops)\n",
        name,
        six ? "[" : "",
        host,
        six ? "]" : "",
        server.port()));
  }
  server.wait();
  deadline.set(kStopSeconds); // without a signal, too
  return kExitOk;
}

} // namespace

std::unique_ptr<Command> make_serve_command() {
  return std::make_unique<ServeCommand>();
}

} // namespace mlx_flash::cli
