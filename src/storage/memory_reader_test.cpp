#include "storage/memory_reader.h"

#include <cstring>
#include <map>

#include <doctest/doctest.h>

#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

constexpr size_t kBytes = 100'000;

std::vector<MemoryReader::File> one_file() {
  Rng rng(41);
  std::vector<std::byte> bytes(kBytes);
  for (auto& byte : bytes) {
    byte = std::byte(rng.next() & 0xFF);
  }
  return {{"the file", bytes}};
}

struct Outcome {
  std::vector<uint64_t> order;
  std::map<uint64_t, std::string> errors;
  std::vector<std::byte> memory;
  uint64_t injected = 0;
  int waits = 0;

  bool operator==(const Outcome&) const = default;
};

// 100 reads of 1000 bytes.
Outcome run(const FaultPlan& faults) {
  MemoryReader reader(one_file(), faults);
  Outcome outcome;
  outcome.memory.resize(kBytes);
  std::vector<ReadRequest> requests;
  for (uint64_t i = 0; i < 100; ++i) {
    requests.push_back(
        {0, i * 1000, std::span(outcome.memory).subspan(i * 1000, 1000), i});
  }
  reader.submit(requests);
  std::vector<ReadCompletion> completions;
  while (reader.wait(completions) > 0) {
    ++outcome.waits;
  }
  for (const auto& completion : completions) {
    outcome.order.push_back(completion.tag);
    if (completion.error) {
      outcome.errors[completion.tag] = *completion.error;
    }
  }
  outcome.injected = reader.injected();
  CHECK(reader.outstanding() == 0);
  CHECK(outcome.order.size() == 100);
  return outcome;
}

bool in_order(const Outcome& outcome) {
  return std::is_sorted(outcome.order.begin(), outcome.order.end());
}

int wrong_bits(const Outcome& outcome) {
  const auto right = one_file()[0].bytes;
  int bits = 0;
  for (size_t i = 0; i < right.size(); ++i) {
    bits +=
        std::popcount(std::to_integer<unsigned>(right[i] ^ outcome.memory[i]));
  }
  return bits;
}

} // namespace

TEST_CASE("memory reader: without faults all is right, at once and in order") {
  const Outcome outcome = run({});
  CHECK(in_order(outcome));
  CHECK(outcome.errors.empty());
  CHECK(outcome.injected == 0);
  CHECK(outcome.waits == 1);
  CHECK(wrong_bits(outcome) == 0);
}

TEST_CASE("memory reader: delayed reads come some waits later, each counted") {
  const Outcome outcome = run({.seed = 2, .delay = 0.5});
  CHECK_FALSE(in_order(outcome));
  CHECK(outcome.errors.empty());
  CHECK(outcome.injected > 20);
  CHECK(outcome.injected < 80);
  CHECK(outcome.waits > 1);
  CHECK(wrong_bits(outcome) == 0);
  CHECK(run({.delay = 1}).injected == 100);
}

TEST_CASE("memory reader: reordered reads are overtaken, each counted") {
  const Outcome outcome = run({.seed = 3, .reorder = 0.3});
  CHECK_FALSE(in_order(outcome));
  CHECK(outcome.errors.empty());
  CHECK(outcome.injected > 10);
  CHECK(outcome.injected < 60);
  CHECK(wrong_bits(outcome) == 0);
}

TEST_CASE("memory reader: short reads are continued, each counted") {
  const Outcome outcome = run({.seed = 4, .short_read = 0.5});
  CHECK(outcome.errors.empty());
  CHECK(outcome.injected > 50);
  CHECK(wrong_bits(outcome) == 0);

  // Every continuation asks the device again.
  MemoryReader reader(one_file(), {.short_read = 1});
  std::vector<std::byte> memory(1000);
  const ReadRequest request{0, 0, memory, 1};
  reader.submit({&request, 1});
  std::vector<ReadCompletion> completions;
  reader.wait(completions);
  CHECK(reader.device_bytes() > 1000);
  CHECK(reader.injected() > 1);
}

TEST_CASE("memory reader: EIO is an error by name, each counted") {
  const Outcome outcome = run({.seed = 5, .io_error = 0.2});
  CHECK(outcome.errors.size() == outcome.injected);
  CHECK(outcome.injected > 5);
  CHECK(outcome.injected < 50);
  for (const auto& [tag, error] : outcome.errors) {
    CHECK(
        error ==
        "[reader] the file: reading 1000 bytes at offset " +
            std::to_string(tag * 1000) + " failed: " + std::strerror(EIO));
  }
  CHECK(wrong_bits(outcome) > 0); // garbage where reads failed
}

TEST_CASE("memory reader: corruption is silent, one bit, each counted") {
  const Outcome outcome = run({.seed = 6, .corruption = 0.2});
  CHECK(outcome.errors.empty());
  CHECK(outcome.injected > 5);
  CHECK(wrong_bits(outcome) == static_cast<int>(outcome.injected));
}

TEST_CASE("memory reader: the same seed and requests give the same faults") {
  const FaultPlan faults{7, 0.3, 0.3, 0.3, 0.1, 0.1};
  CHECK(run(faults) == run(faults));
  FaultPlan other = faults;
  other.seed = 8;
  CHECK_FALSE(run(faults) == run(other));
}

TEST_CASE("memory reader: faults can begin and end") {
  MemoryReader reader(one_file(), {});
  std::vector<std::byte> memory(10);
  const ReadRequest request{0, 50, memory, 1};
  std::vector<ReadCompletion> completions;
  for (const double probability : {0.0, 1.0, 0.0}) {
    completions.clear();
    reader.set_faults({.io_error = probability});
    reader.submit({&request, 1});
    REQUIRE(reader.wait(completions) == 1);
    CHECK(completions[0].error.has_value() == (probability == 1.0));
  }
}

TEST_CASE("memory reader: a destination holds garbage until its completion") {
  MemoryReader reader(one_file(), {.delay = 1});
  std::vector<std::byte> memory(1000);
  const ReadRequest request{0, 0, memory, 1};
  reader.submit({&request, 1});
  const auto bytes = one_file()[0].bytes;
  CHECK(std::memcmp(memory.data(), bytes.data(), 1000) != 0);
  std::vector<ReadCompletion> completions;
  reader.wait(completions);
  CHECK(std::memcmp(memory.data(), bytes.data(), 1000) == 0);
}
