// A loaded model. Sessions (session.h) are its users; all of them share one
// engine thread, and steps carry rows of every session that has work.
//
// Thread rule: all methods may be called from any thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "mlx_flash/chat.h"
#include "mlx_flash/error.h"
#include "mlx_flash/plan.h"
#include "mlx_flash/session.h"
#include "mlx_flash/stats.h"

namespace mlx_flash {

enum class Device { cpu, gpu };

struct EngineOptions {
  std::filesystem::path model; // a model folder

  // The budget: "24MB", "4GB", "50%". Empty: what is really free.
  std::string memory;
  // Fixes the number of expert slots instead of filling the budget.
  std::optional<uint64_t> slots;
  // Every expert in memory and nothing streamed: the reference.
  bool resident = false;

  // Room in the KV cache, in tokens of all sessions together. 0: what is
  // wanted.
  uint64_t context_tokens = 0;
  // What one session will need; room is made for it or for the model's own
  // limit, whichever is less. 0: 4096.
  uint64_t context_wanted = 0;
  // There will be no more than one session at a time, so that a context beyond
  // the model's own limit is a mistake.
  bool single_session = false;
  // Rows of a step at most, up to 65536. 0: as many as an eighth of the budget
  // allows.
  uint64_t prefill_chunk = 0;
  // Answers in progress at most; further ones wait for their turn. 0: as many
  // as there are sessions.
  uint64_t parallel = 0;
  uint64_t max_sessions = 64; // that are open at once
  // Keeps keys and values of texts that were read, in what room the KV cache
  // has left, so that a session that begins alike need not read them again. On
  // the CPU alone.
  bool prefix_cache = false;
  // Keeps them in this folder as well, in files of so many bytes together, so
  // that later processes need not read such texts either. The folder is this
  // process's alone while the engine is open. Empty: no folder.
  std::filesystem::path prompt_cache;
  uint64_t prompt_cache_bytes = 0;
  // What the caller was built from: results of another build may differ, and
  // are not taken from the folder.
  std::string build;
  // While an answer is generated, prompts of others are read in parts that
  // take about so long, so that it does not stand still for longer.
  double decode_gap_seconds = 1;
  // Makes room for answers that a JSON schema constrains; without, they are
  // refused.
  bool grammars = false;
  // What compiling a schema, an expression or a grammar may cost, in steps of
  // the compiler, so that a hostile one ends soon.
  uint64_t grammar_cost = 1'000'000;
  // Room for what score() returns of candidates, 16 bytes each; at least
  // 64 KiB.
  uint64_t result_bytes = 0;
  // What the caller itself keeps in memory, which is part of the budget.
  uint64_t caller_bytes = 0;

  // 0: as many as there are processors for this process; at most 1024.
  int threads = 0;
  // How activations enter products with quantised weights, on the CPU: "int8"
  // rounds them to 8 bits with a scale per group, and keeps keys and values in
  // 16 bits; "f32" takes and keeps them as they are. "auto": int8 on the CPU; a
  // GPU computes in the checkpoint's type and refuses the others.
  std::string precision = "auto";
  std::string reader = "auto"; // "auto", "uring" or "pread"
  std::string policy = "efd"; // "efd" or "lru"
  Device device = Device::cpu;
  // The model's Text, if the caller has loaded it already; else the engine
  // loads its own.
  std::shared_ptr<const Text> text;
  // A file made by `mlx-flash verify --write-checksums`: every read is
  // compared with it.
  std::filesystem::path checksums;
};

// Throws Error(invalid_argument) for what is wrong without knowing the model.
void validate(const EngineOptions& options);

// The plan for these options, without loading anything. A plan that does not
// fit is returned with `fits` false; it does not throw for that.
Plan make_plan(const EngineOptions& options);

class Engine {
 public:
  // Loads the dense weights; experts are read when they are asked for. Throws
  // Error(out_of_budget) with the smallest budget that works, and what
  // Checkpoint and the model throw.
  static std::unique_ptr<Engine> open(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const Plan& plan() const = 0;
  virtual Stats stats() const = 0;

  virtual const Text& text() const = 0;
  // The model's sampling defaults (generation_config.json), greedy without.
  virtual const SamplingOptions& default_sampling() const = 0;
  // 0 when generation_config.json does not say.
  virtual uint64_t default_max_tokens() const = 0;
  virtual uint64_t vocab_size() const = 0;

  // Each of them ends an answer; empty if the model names none.
  virtual const std::vector<TokenId>& end_tokens() const = 0;

  // Whether answers can be constrained so: throws Error(invalid_argument) with
  // what is wrong with the schema, expression or grammar, as starting one
  // would whatever others do.
  virtual void check(const Constraint& constraint) const = 0;

  // An empty timeline. Throws Error(invalid_argument) when as many sessions are
  // open as may be.
  virtual std::unique_ptr<Session> new_session() = 0;
};

} // namespace mlx_flash
