// What streaming does beside giving the right bits.
#include "engine/streamed_experts.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "engine/engine_core.h"
#include "engine/test_demo.h"
#include "storage/memory_reader.h"
#include "storage/test_forwarding_reader.h"

using namespace mlx_flash;

namespace {

// Nothing has arrived before somebody waits for it.
class WatchedReader : public ForwardingReader {
 public:
  WatchedReader(std::unique_ptr<Reader> reader, int& most_polls)
      : ForwardingReader(std::move(reader)), most_polls_(most_polls) {}

  void submit(std::span<const ReadRequest> requests) override {
    polls_ = 0;
    ForwardingReader::submit(requests);
  }
  size_t wait(std::vector<ReadCompletion>& completions) override {
    most_polls_ = std::max(most_polls_, polls_);
    return ForwardingReader::wait(completions);
  }
  size_t poll(std::vector<ReadCompletion>&) override {
    ++polls_;
    return 0;
  }

 private:
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
  const auto engine = open_engine(demo_options(150, 64), seams);
  engine->new_session()->extend(std::vector<TokenId>{497, 487, 261, 416});
  most_polls = 0;
  // Some experts are the same, and are computed while others arrive. Whoever
  // waits looks once before; another look was in between.
  engine->new_session()->extend(std::vector<TokenId>{700, 701, 702, 261});
  CHECK(most_polls > 1);
}
