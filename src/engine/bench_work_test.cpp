// Bytes and operations of models whose shapes are small enough to add up by
// hand; the sums are beside the numbers.
#include "engine/bench_work.h"

#include <doctest/doctest.h>

#include "models/registry.h"

using namespace mlx_flash;

namespace {

const std::filesystem::path kModels = MLX_FLASH_SOURCE_DIR "/models";
const std::filesystem::path kParity = MLX_FLASH_TEST_DATA "/parity";

BenchWork work_in(const std::filesystem::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelShape shape = read_model_shape(checkpoint.config_json());
  return work_of(
      checkpoint,
      ExpertLayout(checkpoint),
      shape,
      ops::kv_page_bytes(shape.kv(), kernels::KvType::i16) /
          ops::kKvPageTokens);
}

} // namespace

TEST_CASE("bench work: 4 bits and a tied head, whose matrix is read whole") {
  // 6 layers, 256 wide, 4 heads and 2 of keys of 64, 32 experts of 128, 4 of
  // them for a token, 4096 words. 4 bits with a scale and a bias of 16 bits
  // for each 64 are 0.5625 bytes; the routers have 8 bits, 1.0625 bytes.
  const BenchWork work = work_in(kModels / "tiny-tales-moe");
  const uint64_t attention = 256 * 256 + 2 * 128 * 256 + 256 * 256;
  const uint64_t router = 32 * 256;
  const uint64_t expert = 3 * 128 * 256;
  const uint64_t head = 4096 * 256;
  const uint64_t norms = 2 * 256 + 2 * 64;
  CHECK(attention * 9 / 16 == 110'592);
  CHECK(router * 17 / 16 == 8'704);
  CHECK(head * 9 / 16 == 589'824);
  CHECK(
      work.dense_bytes ==
      6 * (110'592 + 8'704 + 4 * norms) + 589'824 + 4 * 256);
  CHECK(work.dense_bytes == 1'321'984);
  CHECK(work.expert_bytes == 6 * 4 * expert * 9 / 16);
  CHECK(work.expert_bytes == 1'327'104);
  CHECK(work.kv_bytes == 2 * 6 * 2 * (64 * 2 + 4));
  CHECK(work.row_parameters == 6 * (attention + router + 4 * expert));
  CHECK(work.row_parameters == 3'588'096);
  CHECK(work.head_parameters == head);
  CHECK(work.attention_flops == 4 * 6 * 4 * 64);
}

TEST_CASE("bench work: of an embedding that is not the head, one row") {
  // 2 layers, 64 wide, 4 heads and 1 of keys of 32, 6 experts of 16, 3 of them
  // for a token, 256 words; 16 bits throughout, norms in f32.
  const BenchWork work = work_in(kParity / "f16");
  const uint64_t attention = 2 * 128 * 64 + 2 * 32 * 64;
  const uint64_t router = 6 * 64;
  const uint64_t expert = 3 * 16 * 64;
  const uint64_t norms = 2 * 64 + 2 * 32;
  const uint64_t head = 256 * 64;
  CHECK(
      work.dense_bytes ==
      2 * (2 * (attention + router) + 4 * norms) + 4 * 64 + 2 * head + 2 * 64);
  CHECK(work.dense_bytes == 118'144);
  CHECK(work.expert_bytes == 2 * 3 * expert * 2);
  CHECK(work.kv_bytes == 2 * 2 * 1 * (32 * 2 + 4));
  CHECK(work.row_parameters == 2 * (attention + router + 3 * expert));
  CHECK(work.head_parameters == head);
  CHECK(work.attention_flops == 4 * 2 * 4 * 32);
}

TEST_CASE("bench work: layers without experts count with their own MLP") {
  // 4 layers, two of them with 8 experts of 16, 4 for a token, the others with
  // an MLP of 80.
  const BenchWork work = work_in(kParity / "bf16");
  const uint64_t attention = 2 * 128 * 64 + 2 * 64 * 64;
  CHECK(
      work.row_parameters ==
      4 * attention + 2 * (3 * 80 * 64) + 2 * (8 * 64 + 4 * 3 * 16 * 64));
  CHECK(work.row_parameters == 154'624);
  CHECK(work.expert_bytes == 2 * 4 * (3 * 16 * 64) * 2);
}

TEST_CASE("bench work: one tensor for each expert makes no difference") {
  const BenchWork stacked = work_in(kParity / "q4");
  const BenchWork per_expert = work_in(kParity / "q4_per_expert");
  CHECK(stacked.dense_bytes == per_expert.dense_bytes);
  CHECK(stacked.expert_bytes == per_expert.expert_bytes);
  CHECK(stacked.row_parameters == per_expert.row_parameters);
}
