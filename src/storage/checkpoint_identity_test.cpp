#include "storage/checkpoint_identity.h"

#include <doctest/doctest.h>

#include "storage/test_model.h"

using namespace mlx_flash;

namespace {

namespace fs = std::filesystem;

std::string identity(const TempFolder& folder) {
  return checkpoint_identity(Checkpoint::open(folder.path()));
}

void write_model(const TempFolder& folder, uint64_t seed) {
  TestMoe model;
  model.seed = seed;
  model.write(folder);
}

} // namespace

TEST_CASE("a checkpoint is the same as long as nobody changes it") {
  const TempFolder folder;
  write_model(folder, 1);
  CHECK(identity(folder) == identity(folder));
}

TEST_CASE("other weights are another checkpoint, whatever their time says") {
  const TempFolder folder;
  write_model(folder, 1);
  const auto file = folder.path() / "model.safetensors";
  const auto time = fs::last_write_time(file);
  const std::string first = identity(folder);
  write_model(folder, 2);
  fs::last_write_time(file, time);
  CHECK(identity(folder) != first);
}

TEST_CASE("a file that was written to is another checkpoint") {
  const TempFolder folder;
  write_model(folder, 1);
  const std::string first = identity(folder);
  const auto file = folder.path() / "model.safetensors";
  fs::last_write_time(
      file, fs::last_write_time(file) + std::chrono::seconds(1));
  CHECK(identity(folder) != first);
}

TEST_CASE("another config is another checkpoint") {
  const TempFolder folder;
  write_model(folder, 1);
  const std::string first = identity(folder);
  folder.write(
      "config.json", R"({"model_type": "qwen3_moe", "rope_theta": 5})");
  CHECK(identity(folder) != first);
}
