#include "server/counted_engine.h"

#include <utility>

namespace mlx_flash::server {

namespace {

class CountedEngine : public Engine {
 public:
  CountedEngine(std::unique_ptr<Engine> engine, Metrics& metrics)
      : engine_(std::move(engine)), metrics_(metrics) {}
  ~CountedEngine() override {
    metrics_.retire(engine_->stats());
  }

  const Plan& plan() const override {
    return engine_->plan();
  }
  Stats stats() const override {
    return engine_->stats();
  }
  const Text& text() const override {
    return engine_->text();
  }
  const SamplingOptions& default_sampling() const override {
    return engine_->default_sampling();
  }
  uint64_t default_max_tokens() const override {
    return engine_->default_max_tokens();
  }
  const std::vector<TokenId>& end_tokens() const override {
    return engine_->end_tokens();
  }
  uint64_t vocab_size() const override {
    return engine_->vocab_size();
  }
  void check(const Constraint& constraint) const override {
    engine_->check(constraint);
  }
  std::unique_ptr<Session> new_session() override {
    return engine_->new_session();
  }

 private:
  const std::unique_ptr<Engine> engine_;
  Metrics& metrics_;
};

} // namespace

std::unique_ptr<Engine> count_engine(
    std::unique_ptr<Engine> engine,
    Metrics& metrics) {
  return std::make_unique<CountedEngine>(std::move(engine), metrics);
}

} // namespace mlx_flash::server
