// What streaming does beside giving the right bits.
#include "engine/streamed_experts.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "engine/engine_core.h"
#include "mlx_flash/engine.h"
#include "storage/memory_reader.h"

using namespace mlx_flash;

namespace {

EngineOptions demo(uint64_t slots, uint64_t context) {
  EngineOptions options;
  options.model = MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";
  options.slots = slots;
  options.context_tokens = context;
  options.threads = 1;
  return options;
}

// Nothing has arrived before somebody waits for it.
class WatchedReader : public Reader {
 public:
  WatchedReader(std::unique_ptr<Reader> reader, int& most_polls)
      : reader_(std::move(reader)), most_polls_(most_polls) {}

  std::string_view name() const override {
    return reader_->name();
  }
  void submit(std::span<const ReadRequest> requests) override {
    polls_ = 0;
    reader_->submit(requests);
  }
  size_t wait(std::vector<ReadCompletion>& completions) override {
    most_polls_ = std::max(most_polls_, polls_);
    return reader_->wait(completions);
  }
  size_t poll(std::vector<ReadCompletion>&) override {
    ++polls_;
    return 0;
  }
  size_t outstanding() const override {
    return reader_->outstanding();
  }
  uint64_t device_bytes() const override {
    return reader_->device_bytes();
  }
  uint64_t staging_bytes() const override {
    return reader_->staging_bytes();
  }
  int depth() const override {
    return reader_->depth();
  }

 private:
  std::unique_ptr<Reader> reader_;
  int& most_polls_;
  int polls_ = 0; // since reads were submitted
};

} // namespace

TEST_CASE("streaming: the reader is looked after between computations") {
  int most_polls = 0;
  EngineSeams seams;
  seams.make_reader = [&](const Checkpoint& checkpoint) {
    return std::make_unique<WatchedReader>(
        MemoryReader::load(checkpoint.files(), FaultPlan{}), most_polls);
  };
  const auto engine = open_engine(demo(150, 64), seams);
  engine->new_session()->extend(std::vector<TokenId>{497, 487, 261, 416});
  most_polls = 0;
  // Some experts are the same, and are computed while others arrive. Whoever
  // waits looks once before; another look was in between.
  engine->new_session()->extend(std::vector<TokenId>{700, 701, 702, 261});
  CHECK(most_polls > 1);
}
