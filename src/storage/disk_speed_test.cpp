#include "storage/disk_speed.h"

#include <doctest/doctest.h>

#include "base/error.h"
#include "storage/memory_reader.h"
#include "storage/test_model.h"

using namespace mlx_flash;

namespace {

struct Model {
  explicit Model(const TestMoe& moe = {}) {
    moe.write(folder);
    checkpoint.emplace(Checkpoint::open(folder.path()));
    layout.emplace(*checkpoint);
  }

  DiskSpeed measure(Reader& reader, double seconds) const {
    return measure_disk_speed(
        reader, options, *checkpoint, *layout, seconds, 1);
  }

  TempFolder folder;
  ReaderOptions options{4, 16 << 10};
  std::optional<Checkpoint> checkpoint;
  std::optional<ExpertLayout> layout;
};

} // namespace

TEST_CASE("disk speed: what was read is counted, in whole experts") {
  for (const int bits : {0, 4}) {
    CAPTURE(bits);
    TestMoe moe;
    moe.bits = bits;
    const Model model(moe);
    const uint64_t record = model.layout->layers()[0].record_bytes;
    const uint64_t sections = model.layout->sections({0, 0}).size();
    for (const char* kind : {"pread", "auto"}) {
      const auto reader =
          make_reader(kind, model.checkpoint->files(), model.options);
      const DiskSpeed speed = model.measure(*reader, 0.02);
      CHECK(speed.seconds >= 0.02);
      CHECK(speed.reads > 0);
      CHECK(speed.reads % sections == 0);
      CHECK(speed.bytes == speed.reads / sections * record);
      CHECK(speed.device_bytes >= speed.bytes);
      CHECK(speed.device_bytes == reader->device_bytes());
      CHECK(
          speed.gb_per_second() ==
          static_cast<double>(speed.device_bytes) / speed.seconds / 1e9);
      CHECK(reader->outstanding() == 0);
    }
  }
}

TEST_CASE("disk speed: without any time every buffer is filled once") {
  const Model model;
  const auto reader = MemoryReader::load(model.checkpoint->files(), {});
  // Twice 4 * 16 KiB are more than the 8 experts of 12 KiB.
  CHECK(model.measure(*reader, 0).reads == 8 * 3);
}

TEST_CASE("disk speed: a model without experts is read in pieces") {
  TestMoe moe;
  moe.layers = 0;
  const Model model(moe);
  const auto reader = MemoryReader::load(model.checkpoint->files(), {});
  const DiskSpeed speed = model.measure(*reader, 0);
  CHECK(speed.reads > 0);
  CHECK(speed.bytes > 0);
}

TEST_CASE("disk speed: a read that fails is an error, and nothing is left") {
  const Model model;
  FaultPlan faults;
  faults.io_error = 0.5;
  faults.delay = 0.5;
  const auto reader = MemoryReader::load(model.checkpoint->files(), faults);
  try {
    model.measure(*reader, 10);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::io);
    CHECK(std::string(error.what()).starts_with("[disk] "));
  }
  CHECK(reader->outstanding() == 0);
}
