// That verify finds what it is there to find.
#include "engine/verify_with.h"

#include <doctest/doctest.h>

#include "engine/engine_core.h"
#include "storage/memory_reader.h"

using namespace mlx_flash;

namespace {

EngineOptions demo() {
  EngineOptions options;
  options.model = MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";
  options.memory = "64MB";
  options.threads = 2;
  return options;
}

} // namespace

TEST_CASE("verify: one wrong byte of an expert is a failed case") {
  int opened = 0;
  const auto open = [&](const EngineOptions& options) {
    ++opened;
    EngineSeams seams;
    if (opened == 3) { // the reference, then the cases
      seams.make_reader = [](const Checkpoint& checkpoint) {
        return MemoryReader::load(
            checkpoint.files(), {.seed = 5, .corruption = 0.05});
      };
    }
    return open_engine(options, seams);
  };
  std::vector<VerifyCase> cases;
  const int failed = verify_with(
      demo(), open, [&](const VerifyCase& result) { cases.push_back(result); });
  REQUIRE(cases.size() > 3);
  CHECK(failed == 1);
  for (size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(cases[i].what);
    CHECK(cases[i].passed == (i != 2));
    CHECK(cases[i].detail.empty() == (i != 2));
  }
  CAPTURE(cases[2].detail);
  CHECK(cases[2].detail.find("instead of") != std::string::npos);
}

TEST_CASE("verify: an error of the disk is a failed case, and the rest runs") {
  int opened = 0;
  const auto open = [&](const EngineOptions& options) {
    ++opened;
    EngineSeams seams;
    if (opened == 2) {
      seams.make_reader = [](const Checkpoint& checkpoint) {
        return MemoryReader::load(
            checkpoint.files(), {.seed = 5, .io_error = 1});
      };
    }
    return open_engine(options, seams);
  };
  int passed = 0;
  const int failed = verify_with(demo(), open, [&](const VerifyCase& result) {
    passed += result.passed ? 1 : 0;
  });
  CHECK(failed == 1);
  CHECK(passed > 2);
}
