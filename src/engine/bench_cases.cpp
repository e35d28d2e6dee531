#include "engine/bench_cases.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mlx_flash {

namespace {

using Sizes = std::vector<uint64_t>;

constexpr uint64_t kDefaultDecodeTokens = 32;
// Nothing overflows below, and no context comes near.
constexpr uint64_t kMostTokens = uint64_t{1} << 40;

class Chooser {
 public:
  Chooser(
      uint64_t context_tokens,
      const std::function<Plan(uint64_t room_tokens)>& plan_for)
      : context_tokens_(context_tokens), plan_for_(plan_for) {}

  void add_prefill(const std::optional<Sizes>& given) {
    for (const uint64_t tokens : given.value_or(Sizes{128, 512, 2048})) {
      if (tokens == 0) {
        fail(
            ErrorCode::invalid_argument,
            "[bench] a prompt of 0 tokens cannot be read; give --prefill at "
            "least 1");
      }
      add({BenchKind::prefill, 0, tokens}, given.has_value());
    }
  }

  void add_decode(const std::optional<Sizes>& given, uint64_t tokens) {
    for (const uint64_t context : given.value_or(Sizes{0, 512, 4096})) {
      add({BenchKind::decode, context, tokens}, given.has_value());
    }
  }

  uint64_t decode_tokens(const std::optional<uint64_t>& given) {
    const uint64_t tokens = given.value_or(kDefaultDecodeTokens);
    if (tokens > context_tokens_ && !given) {
      note(fmt::format(
          "{} tokens are decoded instead of {}: the context has no more",
          context_tokens_,
          tokens));
      return context_tokens_;
    }
    if (tokens == 0 || tokens > context_tokens_) {
      fail(
          ErrorCode::invalid_argument,
          "[bench] {} tokens cannot be decoded in a context of {} tokens; "
          "give --tokens from 1 to that",
          tokens,
          context_tokens_);
    }
    return tokens;
  }

  BenchCases take() {
    if (!result_.cases.empty()) {
      return std::move(result_);
    }
    if (refused_) {
      refuse(refused_->first, refused_->second);
    }
    fail(
        ErrorCode::invalid_argument,
        "[bench] there is nothing to measure: both --prefill and --context are "
        "empty");
  }

 private:
  void note(std::string text) {
    result_.notes.push_back(std::move(text));
  }

  void add(BenchCase what, bool given) {
    const BenchCase wanted = what;
    if (what.context > kMostTokens || what.room() > context_tokens_) {
      if (given) {
        refuse_length(what);
      }
      cut(what);
      if (contains(what)) {
        note(fmt::format(
            "{} is left out: the context has {} tokens",
            bench_case_name(wanted),
            context_tokens_));
        return;
      }
    }
    const Plan plan = plan_for_(what.room());
    if (!plan.fits) {
      leave_out(what, plan, given);
      return;
    }
    result_.cases.push_back(what);
    if (what != wanted) {
      note(fmt::format(
          "{} instead of {}: the context has {} tokens",
          bench_case_name(what),
          bench_case_name(wanted),
          context_tokens_));
    }
  }

  void leave_out(const BenchCase& what, const Plan& plan, bool given) {
    if (given) {
      refuse(what, plan);
    }
    if (!refused_) {
      refused_.emplace(what, plan);
    }
    note(fmt::format(
        "{} is left out: it needs {} of memory at least, and the budget is {} "
        "({})",
        bench_case_name(what),
        format_bytes(plan.smallest_budget_bytes),
        format_bytes(plan.budget_bytes),
        plan.budget_source));
  }

  // To the longest that the context has room for.
  void cut(BenchCase& what) const {
    if (what.kind == BenchKind::prefill) {
      what.tokens = context_tokens_;
    } else {
      what.context = context_tokens_ - what.tokens;
    }
  }

  bool contains(const BenchCase& what) const {
    const auto& cases = result_.cases;
    return std::find(cases.begin(), cases.end(), what) != cases.end();
  }

  [[noreturn]] void refuse_length(const BenchCase& what) const {
    if (what.kind == BenchKind::prefill) {
      fail(
          ErrorCode::invalid_argument,
          "[bench] a prompt of {} tokens does not fit the context of {}; give "
          "--prefill at most {}",
          what.tokens,
          context_tokens_,
          context_tokens_);
    }
    fail(
        ErrorCode::invalid_argument,
        "[bench] {} tokens behind {} do not fit the context of {}; give "
        "--context at most {}, or fewer --tokens",
        what.tokens,
        what.context,
        context_tokens_,
        context_tokens_ - what.tokens);
  }

  [[noreturn]] static void refuse(const BenchCase& what, const Plan& plan) {
    fail(
        ErrorCode::out_of_budget,
        "[bench] {} needs at least {} bytes ({}) of memory, but the budget is "
        "{} bytes ({}, from {}); give --memory {} or ask for less",
        bench_case_name(what),
        plan.smallest_budget_bytes,
        format_bytes(plan.smallest_budget_bytes),
        plan.budget_bytes,
        format_bytes(plan.budget_bytes),
        plan.budget_source,
        plan.smallest_budget_bytes);
  }

  const uint64_t context_tokens_;
  const std::function<Plan(uint64_t room_tokens)>& plan_for_;
  BenchCases result_;
  std::optional<std::pair<BenchCase, Plan>> refused_; // the first one
};

} // namespace

BenchCases choose_cases(
    const BenchOptions& options,
    uint64_t context_tokens,
    const std::function<Plan(uint64_t room_tokens)>& plan_for) {
  Chooser chooser(context_tokens, plan_for);
  chooser.add_prefill(options.prefill);
  if (options.contexts && options.contexts->empty()) {
    if (options.decode_tokens) {
      fail(
          ErrorCode::invalid_argument,
          "[bench] --tokens has no effect without a --context to decode at");
    }
  } else {
    chooser.add_decode(
        options.contexts, chooser.decode_tokens(options.decode_tokens));
  }
  return chooser.take();
}

} // namespace mlx_flash
