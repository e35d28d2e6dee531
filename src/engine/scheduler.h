// Steps: which rows of which requests run together. Decoding rows come first,
// one per request; prompts share what room the chunk leaves, and while somebody
// decodes, only so much of it that the step stays short. Who takes part at all
// is decided in admission.h, what becomes of results in answers.h.
//
// Thread rule: the engine thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/admission.h"
#include "engine/answers.h"
#include "engine/grammars.h"
#include "engine/request.h"
#include "engine/wanted_rows.h"
#include "mlx_flash/stats.h"
#include "models/model.h"

namespace mlx_flash {

struct SchedulerSetup {
  Model* model = nullptr;
  ExpertSource* experts = nullptr;
  ops::KvCache* cache = nullptr;
  int64_t context_tokens = 0; // of one session at most
  int prefill_chunk = 1;
  int logit_rows = 1;
  size_t most_active = SIZE_MAX; // requests in steps
  Grammars* grammars = nullptr;
  size_t most_constrained = 0; // of them
  bool keep_prefixes = false;
  PageStore* page_store = nullptr; // null: prefixes are kept in memory alone
  // How long steps with prompts should take while somebody decodes.
  double decode_gap_seconds = 1;
  const std::atomic<bool>* closing = nullptr; // ends a step when it gets true
};

class Scheduler {
 public:
  Scheduler(SchedulerSetup setup, AnswersSetup answers);

  // Takes a request. Close and rewind are done at once.
  void accept(std::shared_ptr<Request> request);

  bool idle() const {
    return active_.empty() && admission_.waiting().empty();
  }

  // Runs one step over the requests that have room. After a failing one they
  // are tried one by one, so that those alone end that cannot go on; their
  // sequences are left as they were.
  void step();

  // Ends every request as cancelled.
  void cancel_all();

  // Gives the requests that have ended back to their sessions. Apart from
  // step(), so that what they read of the engine then counts their last step.
  void deliver();

  // Counters of steps, prefill and decode, and what the requests hold.
  Stats stats() const;

 private:
  struct Part { // of a step
    RequestPtr request;
    ops::Segment segment;
    int first_wanted_row = 0; // in the segment; == rows: none
    bool prompt = false; // rows of a prompt, not of decoding
  };

  void start(const RequestPtr& request);
  void check_tokens(const Request& request) const;
  void close_timeline(const Request& request);
  void drop_cancelled();
  void make_matchers();
  void restore_prompts();
  bool should_stop(const std::vector<Part>& parts) const;
  void run_or_end(const ops::Batch& batch, const std::vector<Part>& parts);
  void run_alone(const Part& part);
  void end_part(const Part& part, const std::exception_ptr& why);
  std::vector<Part> plan_step(ops::Batch& batch);
  void add_decoding(ops::Batch& batch, std::vector<Part>& parts);
  void add_prompts(ops::Batch& batch, std::vector<Part>& parts);
  void adapt_mixed_rows(const std::vector<Part>& parts, double seconds);
  template <typename Visit>
  void for_each_request(Visit visit);
  bool add_part(
      const RequestPtr& request,
      int rows,
      ops::Batch& batch,
      std::vector<Part>& parts);
  void run(const ops::Batch& batch, const std::vector<Part>& parts);
  void take_results(
      const std::vector<Part>& parts,
      const ops::mx::array& hidden);
  void take(WantedRows& wanted, const std::vector<Part>& parts);
  void advance(const std::vector<Part>& parts);
  void shorten(Timeline& timeline, size_t length);
  void count_step(const std::vector<Part>& parts);
  void count_rows(const std::vector<Part>& parts, double seconds);

  const SchedulerSetup setup_;
  const uint64_t kv_pages_; // of the whole cache
  Answers answers_;
  const std::unique_ptr<PrefixCache> prefixes_; // null: none are kept
  Admission admission_;
  std::vector<RequestPtr> active_;
  int mixed_rows_; // of prompts, in a step in which somebody decodes
  bool advanced_ = false; // the sequences have taken the step's rows over
  Stats stats_;
  // Until when time was counted: between steps of work it goes on.
  double counted_until_ = 0; // seconds
};

} // namespace mlx_flash
