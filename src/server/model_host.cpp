#include "server/model_host.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "server/model_host_state.h"

namespace mlx_flash::server {

ModelHost::ModelHost(const ServerOptions& options, Loop& loop)
    : state_(std::make_shared<State>(options, loop)) {}

// Waits for a load in progress, which nothing can cut short.
ModelHost::~ModelHost() {
  close();
  std::unique_ptr<BackgroundThread> background;
  {
    std::lock_guard lock(state_->mutex);
    background = std::move(state_->background);
  }
  background.reset();
}

void ModelHost::begin() {
  (void)state_->wish({State::Wish::Kind::load, &state_->models.front()});
}

Task ModelHost::acquire(
    const std::string& name,
    std::function<void(std::shared_ptr<ModelLease>)> ready,
    std::function<void(const ApiError&)> failed) {
  const ServedModel* model = find(name);
  if (!name.empty() && !model) {
    throw state_->unknown(name);
  }
  return state_->wish(
      {State::Wish::Kind::use, model, std::move(ready), std::move(failed)});
}

std::shared_ptr<ModelLease> ModelHost::current() {
  const State::Locked lock(*state_);
  if (state_->closed || state_->phase != State::Phase::ready) {
    return nullptr;
  }
  // Whoever only looks at it does not make the model stay.
  return state_->use(false);
}

void ModelHost::release() {
  const State::Locked lock(*state_);
  state_->release();
}

Task ModelHost::switch_to(
    const std::string& name,
    std::function<void()> ready,
    std::function<void(const ApiError&)> failed) {
  const ServedModel* model = find(name);
  if (!model) {
    throw state_->unknown(name);
  }
  return state_->wish(
      {State::Wish::Kind::load,
       model,
       [ready = std::move(ready)](const auto&) { ready(); },
       std::move(failed)});
}

void ModelHost::close() {
  const State::Locked lock(*state_);
  state_->closed = true;
  state_->serve_wishes();
}

ModelStatus ModelHost::status() const {
  using Phase = State::Phase;
  std::lock_guard lock(state_->mutex);
  ModelStatus status;
  switch (state_->phase) {
    case Phase::released:
    case Phase::unloading:
      status.state = ModelStatus::State::released;
      break;
    case Phase::loading:
      status.state = ModelStatus::State::loading;
      break;
    case Phase::ready:
      status.state = ModelStatus::State::ready;
      break;
    case Phase::failed:
      status.state = ModelStatus::State::failed;
      break;
  }
  status.name = state_->model ? state_->model->name : "";
  status.error = state_->error;
  status.loading_seconds = state_->phase == Phase::loading
      ? now_seconds() - state_->loading_since
      : state_->loading_seconds;
  if (state_->let_go_at) {
    status.seconds_left = std::max(0.0, *state_->let_go_at - now_seconds());
  }
  status.users = state_->users;
  status.waiting = static_cast<size_t>(std::count_if(
      state_->wishes.begin(), state_->wishes.end(), [](const auto& wish) {
        return wish.kind == State::Wish::Kind::use;
      }));
  return status;
}

const std::vector<ServedModel>& ModelHost::models() const {
  return state_->models;
}

const ServedModel* ModelHost::find(const std::string& name) const {
  return state_->find(name);
}

} // namespace mlx_flash::server
