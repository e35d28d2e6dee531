#include "server/model_host_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "server/embedding_inputs.h"
#include "server/server_memory.h"

namespace mlx_flash::server {

namespace {

// A load that failed is no mistake of the request that had to wait for it.
ApiError load_error(const ServedModel& model, const std::exception_ptr& why) {
  const ApiError error = to_api_error(why);
  return ApiError(
      error.kind() == ApiErrorKind::unavailable ? ApiErrorKind::unavailable
                                                : ApiErrorKind::internal,
      fmt::format(
          "the model '{}' could not be loaded: {}", model.name, error.what()));
}

ApiError closed_error() {
  return ApiError(
      ApiErrorKind::unavailable, "the server is stopping; try again later");
}

ApiError waiting_error(uint64_t most) {
  return ApiError(
      ApiErrorKind::unavailable,
      fmt::format(
          "{} requests wait for a model, and no more may; try again later",
          most));
}

// Of a prompt as long as the context, with as many candidates for each token as
// OpenAI's completions have at most; the prompt may be shorter, and have more.
uint64_t score_bytes(const EngineOptions& options) {
  constexpr uint64_t kCandidates = 5;
  constexpr uint64_t kUsualContext = 4096;
  const uint64_t context =
      options.context_tokens > 0 ? options.context_tokens : kUsualContext;
  return kCandidates * sizeof(TokenLogprob) * context;
}

} // namespace

// What the server's limits mean for its engines. Answers that wait have
// sessions already, and those of ended ones may take a while to go.
std::vector<ServedModel> ModelHost::State::with_room(
    const ServerOptions& options) {
  const ServerLimits& limits = options.limits;
  std::vector<ServedModel> models = options.models;
  for (ServedModel& each : models) {
    each.engine.parallel = limits.parallel;
    each.engine.grammar_cost = limits.grammar_cost;
    each.engine.result_bytes =
        std::max(each.engine.result_bytes, score_bytes(each.engine));
    each.engine.caller_bytes =
        server_bytes(limits) + embeddings_bytes(limits, each.embedding);
    each.engine.max_sessions = std::max(
        each.engine.max_sessions, 2 * (limits.parallel + limits.queue));
  }
  return models;
}

const ServedModel* ModelHost::State::find(const std::string& name) const {
  const auto found =
      std::find_if(models.begin(), models.end(), [&](const ServedModel& each) {
        return each.name == name ||
            std::find(each.aliases.begin(), each.aliases.end(), name) !=
            each.aliases.end();
      });
  return found == models.end() ? nullptr : &*found;
}

ApiError ModelHost::State::unknown(const std::string& name) const {
  constexpr size_t kMostShown = 200;
  std::vector<std::string> names;
  for (const ServedModel& each : models) {
    names.push_back(each.name);
  }
  return ApiError(
             ApiErrorKind::not_found,
             fmt::format(
                 "the model {} is not served here; ask for {}",
                 name.size() > kMostShown ? "of that name"
                                          : fmt::format("'{}'", name),
                 fmt::join(names, " or ")))
      .at("model")
      .with_code("model_not_found");
}

Task ModelHost::State::wish(Wish wish) {
  const Locked lock(*this);
  if (wishes.size() >= most_wishes) {
    refuse(wish, waiting_error(most_wishes));
    return [] {};
  }
  wish.number = ++wishes_so_far;
  wishes.push_back(std::move(wish));
  serve_wishes();
  return [weak = weak_from_this(), number = wishes_so_far] {
    if (const auto self = weak.lock()) {
      self->withdraw(number);
    }
  };
}

void ModelHost::State::withdraw(uint64_t number) {
  const Locked lock(*this);
  const auto found =
      std::find_if(wishes.begin(), wishes.end(), [&](const Wish& each) {
        return each.number == number;
      });
  if (found != wishes.end()) {
    withdrawn.push_back(std::move(*found));
    wishes.erase(found);
    serve_wishes();
  }
}

// The model is ready.
std::shared_ptr<ModelHost::State::Lease> ModelHost::State::use(bool counts) {
  ++users;
  if (counts) {
    ++counted_users;
    keep_for_now();
    keep_is_over = false;
  }
  return std::make_shared<Lease>(shared_from_this(), counts);
}

void ModelHost::State::end_use(bool counts, std::optional<double> how_long) {
  const Locked lock(*this);
  --users;
  if (counts) {
    keep = released ? 0 : how_long.value_or(usual_keep);
    if (--counted_users == 0) {
      consider_letting_go();
    }
  }
  serve_wishes();
}

// In order, so that those who ask for the model that is loaded do not keep
// another one out for ever.
void ModelHost::State::serve_wishes() {
  if (closed) {
    fail_wishes(closed_error(), nullptr);
  }
  while (!wishes.empty() && serve(wishes.front())) {
    wishes.pop_front();
  }
  if (wishes.empty() && phase == Phase::ready && keep_is_over && users == 0) {
    begin_unload();
  }
}

// False if it has to wait.
bool ModelHost::State::serve(const Wish& wish) {
  if (phase == Phase::loading || phase == Phase::unloading) {
    return false;
  }
  const bool loaded = phase == Phase::ready;
  if (!loaded) {
    begin_load(wish.model ? *wish.model : models.front());
    return false;
  }
  if (wish.model && wish.model != model) {
    if (users == 0) {
      begin_unload();
    }
    return false;
  }
  std::shared_ptr<Lease> lease;
  if (wish.kind == Wish::Kind::use) {
    lease = use(true);
  }
  if (wish.ready) {
    told.push_back(
        [ready = wish.ready, lease = std::move(lease)] { ready(lease); });
  }
  return true;
}

void ModelHost::State::begin_load(const ServedModel& which) {
  if (!background) {
    return;
  }
  phase = Phase::loading;
  model = &which;
  error.clear();
  loading_since = now_seconds();
  released = false;
  background->post([self = shared_from_this(), &which] { self->load(which); });
}

void ModelHost::State::load(const ServedModel& which) {
  log::info("[model] loading {}", which.name);
  std::unique_ptr<Engine> opened;
  std::optional<ApiError> failure;
  try {
    opened = open_engine(which.engine);
  } catch (...) {
    failure = load_error(which, std::current_exception());
  }
  const Locked lock(*this);
  loading_seconds = now_seconds() - loading_since;
  if (failure) {
    log::warn("[model] {}", failure->what());
    phase = Phase::failed;
    error = failure->what();
    fail_wishes(*failure, &which);
  } else {
    log::info(
        "[model] {} is ready after {:.1f} s", which.name, loading_seconds);
    phase = Phase::ready;
    engine = std::move(opened);
    keep = released ? 0 : usual_keep;
    keep_is_over = false;
    consider_letting_go();
  }
  serve_wishes();
}

void ModelHost::State::begin_unload() {
  if (!background) {
    return; // it goes with the last lease
  }
  phase = Phase::unloading;
  keep_for_now();
  keep_is_over = false;
  background->post([self = shared_from_this()] { self->unload(); });
}

void ModelHost::State::unload() {
  std::unique_ptr<Engine> going;
  {
    std::lock_guard lock(mutex);
    going = std::move(engine);
  }
  going.reset(); // may wait for what the engine is doing
  log::info("[model] {} was let go", model->name);
  const Locked lock(*this);
  phase = Phase::released;
  serve_wishes();
}

// As if this model were never kept after a use, be it loaded or on its way.
void ModelHost::State::release() {
  released = true;
  keep = 0;
  keep_for_now();
  if (counted_users == 0) {
    consider_letting_go();
    serve_wishes();
  }
}

// No time runs out for it any more.
void ModelHost::State::keep_for_now() {
  ++timer;
  let_go_at.reset();
  std::exchange(call_off_timer, [] {})();
}

// Starts the time for which the model is kept.
void ModelHost::State::consider_letting_go() {
  if (phase != Phase::ready || keep < 0) {
    return;
  }
  if (keep == 0) {
    keep_is_over = true;
    return;
  }
  keep_for_now();
  let_go_at = now_seconds() + keep;
  call_off_timer =
      loop.post_after(keep, [weak = weak_from_this(), expected = timer] {
        if (const auto self = weak.lock()) {
          self->time_is_over(expected);
        }
      });
}

void ModelHost::State::time_is_over(uint64_t expected) {
  const Locked lock(*this);
  if (timer == expected && phase == Phase::ready) {
    keep_is_over = true;
    serve_wishes();
  }
}

void ModelHost::State::refuse(Wish& wish, const ApiError& why) {
  if (wish.failed) {
    told.push_back([failed = std::move(wish.failed), why] { failed(why); });
  }
}

// Those that `which` would have served; null: all.
void ModelHost::State::fail_wishes(
    const ApiError& why,
    const ServedModel* which) {
  std::deque<Wish> others;
  for (Wish& wish : wishes) {
    if (which && wish.model && wish.model != which) {
      others.push_back(std::move(wish));
    } else {
      refuse(wish, why);
    }
  }
  wishes = std::move(others);
}

} // namespace mlx_flash::server
