// The fetcher against a reader that does what it is told: completes reads in
// any order, late, wrongly or with errors, and writes garbage where a real
// read that fails may have written some.
#include "residency/expert_fetcher.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"
#include "platform/temp_folder.h"
#include "storage/memory_reader.h"

using namespace mlx_flash;

namespace {

constexpr int kLayers = 3;
constexpr int kExperts = 5;
constexpr int kHidden = 12;
constexpr int kInner = 6;
constexpr const char* kWeights = "model.safetensors";

// A model in MLX's stacked form whose expert weights are random bytes.
const std::filesystem::path& write_model(const TempFolder& folder) {
  std::string header = "{";
  uint64_t offset = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const char* name : {"gate", "up", "down"}) {
      const bool down = std::string_view(name) == "down";
      const uint64_t bytes = uint64_t{2} * kExperts * kHidden * kInner;
      header += fmt::format(
          R"({}"model.layers.{}.mlp.switch_mlp.{}_proj.weight":)"
          R"({{"dtype":"BF16","shape":[{},{},{}],"data_offsets":[{},{}]}})",
          offset ? "," : "",
          layer,
          name,
          kExperts,
          down ? kHidden : kInner,
          down ? kInner : kHidden,
          offset,
          offset + bytes);
      offset += bytes;
    }
  }
  header += "}";
  std::string file(8, '\0');
  const uint64_t length = header.size();
  for (int i = 0; i < 8; ++i) {
    file[i] = static_cast<char>(length >> (8 * i));
  }
  file += header;
  Rng rng(99);
  for (uint64_t i = 0; i < offset; ++i) {
    file += static_cast<char>(rng.next());
  }
  folder.write(kWeights, file);
  folder.write("config.json", R"({"model_type": "qwen3_moe"})");
  return folder.path();
}

class ScriptedReader : public Reader {
 public:
  enum class Outcome { good, error, corrupt };
  using Decide = std::function<Outcome(const ReadRequest&)>;

  explicit ScriptedReader(std::vector<std::byte> file)
      : file_(std::move(file)) {}

  // What becomes of each read from now on.
  Decide decide = [](const ReadRequest&) { return Outcome::good; };
  // Completes the pending read with this index next.
  std::function<size_t(size_t pending)> choose = [](size_t) { return 0; };
  // Whether poll() finds anything.
  bool ready = false;
  std::vector<ReadRequest> submitted;

  std::string_view name() const override {
    return "scripted";
  }
  void submit(std::span<const ReadRequest> requests) override {
    for (const ReadRequest& request : requests) {
      submitted.push_back(request);
      pending_.push_back(request);
    }
  }
  size_t wait(std::vector<ReadCompletion>& completions) override {
    const double start_seconds = now_seconds();
    while (now_seconds() == start_seconds) {
    }
    return complete_one(completions);
  }
  size_t poll(std::vector<ReadCompletion>& completions) override {
    return ready ? complete_one(completions) : 0;
  }
  size_t outstanding() const override {
    return pending_.size();
  }
  uint64_t device_bytes() const override {
    return 0;
  }
  uint64_t staging_bytes() const override {
    return 0;
  }
  int depth() const override {
    return 1;
  }

 private:
  size_t complete_one(std::vector<ReadCompletion>& completions) {
    if (pending_.empty()) {
      return 0;
    }
    const size_t i = choose(pending_.size());
    const ReadRequest request = pending_[i];
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
    ReadCompletion completion = {.tag = request.tag, .error = {}};
    const Outcome outcome = decide(request);
    if (outcome == Outcome::error) {
      std::memset(request.dest.data(), 0xAB, request.dest.size());
      completion.error =
          fmt::format("{} at {}: scripted", kWeights, request.offset);
    } else {
      REQUIRE(request.offset + request.dest.size() <= file_.size());
      std::memcpy(
          request.dest.data(),
          file_.data() + request.offset,
          request.dest.size());
      if (outcome == Outcome::corrupt) {
        request.dest[request.dest.size() / 2] ^= std::byte{4};
      }
    }
    completions.push_back(completion);
    return 1;
  }

  const std::vector<std::byte> file_;
  std::vector<ReadRequest> pending_;
};

std::vector<std::byte> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

struct Fixture {
  explicit Fixture(uint32_t slots)
      : checkpoint(Checkpoint::open(write_model(folder))),
        layout(checkpoint),
        file(bytes_of(folder.path() / kWeights)),
        reader(file),
        memory(slots * layout.slot_bytes()),
        policy(make_policy("efd", {slots, kLayers, kExperts, 2})),
        bank(memory, layout.slot_bytes(), *policy) {}

  // Whether every section in the slot is what the file has.
  bool is_right(const SlotBank::Lease& lease, ExpertKey key) const {
    for (const Section& section : layout.sections(key)) {
      const auto got =
          lease.bytes().subspan(section.slot_offset, section.bytes);
      const auto want =
          std::span(file).subspan(section.file_offset, section.bytes);
      if (!std::equal(got.begin(), got.end(), want.begin(), want.end())) {
        return false;
      }
    }
    return true;
  }

  TempFolder folder;
  Checkpoint checkpoint;
  ExpertLayout layout;
  std::vector<std::byte> file;
  ScriptedReader reader;
  std::vector<std::byte> memory;
  std::unique_ptr<EvictionPolicy> policy;
  SlotBank bank;
};

using Outcome = ScriptedReader::Outcome;

} // namespace

TEST_CASE("expert fetcher: an expert arrives whole, leased and resident") {
  Fixture f(4);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout);
  REQUIRE(fetcher.start({1, 3}));
  CHECK(fetcher.in_flight() == 1);
  CHECK(f.reader.submitted.empty());
  fetcher.submit();
  const auto sections = f.layout.sections({1, 3});
  REQUIRE(f.reader.submitted.size() == sections.size());
  for (size_t i = 0; i < sections.size(); ++i) {
    // So much around it may be written: it is read in place.
    CHECK(f.reader.submitted[i].room == sections[i].block_bytes);
  }
  CHECK_FALSE(f.bank.is_resident({1, 3}));

  auto fetched = fetcher.wait();
  REQUIRE(fetched);
  CHECK(fetched->key == ExpertKey{1, 3});
  CHECK(fetched->error.empty());
  REQUIRE(fetched->lease);
  CHECK(f.is_right(*fetched->lease, {1, 3}));
  CHECK(f.bank.is_resident({1, 3}));
  CHECK(f.bank.pinned_slots() == 1);
  CHECK(fetcher.in_flight() == 0);
  CHECK(fetcher.fetched_experts() == 1);
  CHECK_FALSE(fetcher.wait());
  CHECK_FALSE(fetcher.poll());
}

TEST_CASE("expert fetcher: reads go out in the order of start") {
  Fixture f(3);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout);
  const std::vector<ExpertKey> keys = {{2, 4}, {0, 1}, {2, 0}};
  for (const ExpertKey key : keys) {
    REQUIRE(fetcher.start(key));
  }
  fetcher.submit();
  size_t i = 0;
  for (const ExpertKey key : keys) {
    for (const Section& section : f.layout.sections(key)) {
      REQUIRE(i < f.reader.submitted.size());
      CHECK(f.reader.submitted[i].offset == section.file_offset);
      CHECK(f.reader.submitted[i].dest.size() == section.bytes);
      ++i;
    }
  }
  CHECK(i == f.reader.submitted.size());
}

TEST_CASE("expert fetcher: without a slot nothing is started") {
  Fixture f(1);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout);
  REQUIRE(fetcher.start({0, 0}));
  CHECK_FALSE(fetcher.start({0, 1}));
  CHECK(fetcher.in_flight() == 1);
  auto fetched = fetcher.wait(); // submits by itself rather than hang
  REQUIRE(fetched);
  REQUIRE(fetched->lease);
  CHECK_FALSE(fetcher.start({0, 1}));
  fetched.reset();
  CHECK(fetcher.start({0, 1}));
}

TEST_CASE(
    "expert fetcher: a failed expert's slot is free only when all its "
    "reads have completed") {
  Fixture f(1);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout);
  const auto sections = f.layout.sections({1, 2});
  const uint64_t first_to_fail = sections[1].file_offset;
  f.reader.decide = [&](const ReadRequest& request) {
    return request.offset == sections[0].file_offset ? Outcome::good
                                                     : Outcome::error;
  };
  // The middle section fails, then the last does, then the first is good.
  f.reader.choose = [](size_t pending) { return pending > 1 ? 1 : 0; };
  f.reader.ready = true;
  REQUIRE(fetcher.start({1, 2}));
  fetcher.submit();
  for (size_t i = 1; i < sections.size(); ++i) {
    CHECK_FALSE(fetcher.poll());
    CHECK(fetcher.in_flight() == 1);
    CHECK_FALSE(f.bank.begin_fill({0, 0}));
  }
  const auto fetched = fetcher.poll();
  REQUIRE(fetched);
  CHECK_FALSE(fetched->lease);
  CHECK(
      fetched->error ==
      fmt::format(
          "[expert] layer 1 expert 2: {} at {}: scripted",
          kWeights,
          first_to_fail));
  CHECK_FALSE(f.bank.is_resident({1, 2}));
  CHECK(fetcher.in_flight() == 0);
  CHECK(fetcher.fetched_experts() == 0);
  CHECK(f.bank.begin_fill({0, 0}));
}

TEST_CASE("expert fetcher: time counts as stall only when nothing is done") {
  Fixture f(4);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout);
  f.reader.ready = true; // poll() finds one section at a time
  REQUIRE(fetcher.start({0, 0}));
  fetcher.submit();
  while (!fetcher.poll()) {
  }
  CHECK(fetcher.stall_seconds() == 0);

  // Done before wait() is called.
  REQUIRE(fetcher.start({0, 1}));
  REQUIRE(fetcher.start({0, 2}));
  fetcher.submit();
  const size_t sections = f.layout.sections({0, 1}).size();
  for (size_t i = 0; i < sections; ++i) {
    (void)fetcher.poll();
  }
  f.reader.choose = [](size_t pending) { return pending - 1; };
  while (f.reader.outstanding() > 1) {
    CHECK_FALSE(fetcher.poll());
  }
  CHECK(fetcher.wait());
  CHECK(fetcher.stall_seconds() == 0);

  f.reader.ready = false;
  REQUIRE(fetcher.start({0, 3}));
  fetcher.submit();
  CHECK(fetcher.wait());
  CHECK(fetcher.stall_seconds() > 0);
}

TEST_CASE("expert fetcher: abandon leaves no read, no slot and no expert") {
  Fixture f(4);
  size_t submitted = 0;
  {
    ExpertFetcher fetcher(f.bank, f.reader, f.layout);
    const auto begin = [&] {
      f.reader.ready = true;
      REQUIRE(fetcher.start({0, 0}));
      REQUIRE(fetcher.start({0, 1}));
      fetcher.submit();
      // One section has arrived, the others are pending; a third expert has
      // not been submitted.
      CHECK_FALSE(fetcher.poll());
      REQUIRE(fetcher.start({0, 2}));
      submitted = f.reader.submitted.size();
      CHECK(fetcher.in_flight() == 3);
    };
    begin();
    fetcher.abandon();
    CHECK(fetcher.in_flight() == 0);
    CHECK(f.reader.outstanding() == 0);
    CHECK(f.reader.submitted.size() == submitted);
    CHECK(f.bank.pinned_slots() == 0);
    CHECK_FALSE(f.bank.is_resident({0, 0}));
    CHECK_FALSE(fetcher.wait());

    begin(); // works as before, and is left to the destructor
  }
  CHECK(f.reader.outstanding() == 0);
  CHECK(f.reader.submitted.size() == submitted);
  CHECK(f.bank.pinned_slots() == 0);
}

TEST_CASE("expert fetcher: wrong bytes are an error with file and offset") {
  Fixture f(2);
  const auto checksums =
      ChecksumTable::compute(f.checkpoint, f.layout, f.reader);
  ExpertFetcher fetcher(f.bank, f.reader, f.layout, &checksums);
  const Section bad = f.layout.sections({2, 1})[2];
  f.reader.decide = [&](const ReadRequest& request) {
    return request.offset == bad.file_offset ? Outcome::corrupt : Outcome::good;
  };
  REQUIRE(fetcher.start({2, 1}));
  REQUIRE(fetcher.start({2, 2}));
  auto fetched = fetcher.wait();
  REQUIRE(fetched);
  CHECK(fetched->key == ExpertKey{2, 1});
  CHECK_FALSE(fetched->lease);
  CHECK(fetched->error.starts_with("[expert] layer 2 expert 1: "));
  CHECK(fetched->error.find(kWeights) != std::string::npos);
  CHECK(
      fetched->error.find(std::to_string(bad.file_offset)) !=
      std::string::npos);
  CHECK_FALSE(f.bank.is_resident({2, 1}));

  fetched = fetcher.wait();
  REQUIRE(fetched);
  REQUIRE(fetched->lease);
  CHECK(f.is_right(*fetched->lease, {2, 2}));
}

namespace {

// Runs many layers' worth of fetches through `reader` and checks each expert
// that arrives, at once and for as long as it stays leased.
struct Storm {
  Fixture& f;
  ExpertFetcher& fetcher;
  Rng& rng;
  int arrived = 0;
  int failed = 0;

  void one_round() {
    struct Held {
      ExpertKey key;
      SlotBank::Lease lease;
    };
    std::vector<Held> held;
    const auto take = [&](Fetched fetched) {
      REQUIRE(fetched.lease.has_value() == fetched.error.empty());
      REQUIRE(f.bank.is_resident(fetched.key) == fetched.lease.has_value());
      if (fetched.lease) {
        ++arrived;
        held.push_back({fetched.key, *std::move(fetched.lease)});
      } else {
        ++failed;
        REQUIRE(fetched.error.find(kWeights) != std::string::npos);
      }
    };
    f.bank.begin_step(1);
    const auto layer = static_cast<uint16_t>(rng.below(kLayers));
    for (uint16_t expert = 0; expert < kExperts; ++expert) {
      const ExpertKey key = {layer, expert};
      if (auto lease = f.bank.try_lease(key, 1)) {
        held.push_back({key, *std::move(lease)});
      } else if (!fetcher.start(key)) {
        // Every slot is in use: let go of what is there, wait for one.
        fetcher.submit();
        held.clear();
        if (auto fetched = fetcher.wait()) {
          take(*std::move(fetched));
        }
      }
      if (rng.below(2)) {
        fetcher.submit();
      }
      if (auto fetched = fetcher.poll(); fetched && rng.below(2)) {
        take(*std::move(fetched));
      }
    }
    fetcher.submit();
    if (rng.below(16) == 0) {
      fetcher.abandon();
    }
    while (auto fetched = fetcher.wait()) {
      take(*std::move(fetched));
      for (const Held& h : held) {
        REQUIRE(f.is_right(h.lease, h.key));
      }
    }
    REQUIRE(f.bank.pinned_slots() == held.size());
    held.clear();
    REQUIRE(f.bank.pinned_slots() == 0);
  }

  // Without faults each expert can be had.
  void all_is_well() {
    for (uint16_t layer = 0; layer < kLayers; ++layer) {
      for (uint16_t expert = 0; expert < kExperts; ++expert) {
        const ExpertKey key = {layer, expert};
        auto lease = f.bank.try_lease(key, 1);
        if (!lease) {
          REQUIRE(fetcher.start(key));
          auto fetched = fetcher.wait();
          REQUIRE(fetched);
          REQUIRE(fetched->error == "");
          lease = std::move(fetched->lease);
        }
        REQUIRE(f.is_right(*lease, key));
      }
    }
  }
};

} // namespace

TEST_CASE("invariant 4: a read error is an error, and the bank lives on") {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Fixture f(1 + static_cast<uint32_t>(rng.below(kLayers * kExperts)));
    CAPTURE(f.bank.slots());
    const auto checksums =
        ChecksumTable::compute(f.checkpoint, f.layout, f.reader);
    ExpertFetcher fetcher(f.bank, f.reader, f.layout, &checksums);
    f.reader.choose = [&](size_t pending) { return rng.below(pending); };
    f.reader.decide = [&](const ReadRequest&) {
      f.reader.ready = rng.below(2);
      const uint64_t outcome = rng.below(20);
      return outcome == 0 ? Outcome::error
          : outcome == 1  ? Outcome::corrupt
                          : Outcome::good;
    };
    Storm storm{f, fetcher, rng};
    for (int round = 0; round < 60; ++round) {
      storm.one_round();
    }
    CHECK(storm.arrived > 0);
    CHECK(storm.failed > 0);
    f.reader.decide = [](const ReadRequest&) { return Outcome::good; };
    storm.all_is_well();
  }
}

TEST_CASE("invariant 4: the same with the faults of a real reader") {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Fixture f(2 + static_cast<uint32_t>(rng.below(kLayers * kExperts)));
    const auto reader = MemoryReader::load(f.checkpoint.files(), {});
    const auto checksums =
        ChecksumTable::compute(f.checkpoint, f.layout, *reader);
    ExpertFetcher fetcher(f.bank, *reader, f.layout, &checksums);
    reader->set_faults(
        {.seed = seed,
         .delay = 0.3,
         .reorder = 0.3,
         .short_read = 0.2,
         .io_error = 0.03,
         .corruption = 0.03});
    Storm storm{f, fetcher, rng};
    for (int round = 0; round < 60; ++round) {
      storm.one_round();
    }
    CHECK(storm.arrived > 0);
    CHECK(storm.failed > 0);
    CHECK(reader->injected() > 0);
    reader->set_faults({});
    storm.all_is_well();
  }
}
