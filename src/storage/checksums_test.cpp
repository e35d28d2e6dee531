#include "storage/checksums.h"

#include <cstring>

#include <doctest/doctest.h>

#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/memory_reader.h"
#include "storage/test_model.h"

using namespace mlx_flash;

namespace {

struct Model {
  explicit Model(const TestMoe& moe = {.bits = 4}) {
    moe.write_shards(folder, 2);
  }
  Checkpoint open() const {
    return Checkpoint::open(folder.path());
  }
  ChecksumTable compute(std::string_view kind = "auto") const {
    const auto checkpoint = open();
    const auto reader = make_reader(kind, checkpoint.files(), {4, 16 << 10});
    return ChecksumTable::compute(
        checkpoint, ExpertLayout(checkpoint), *reader);
  }

  TempFolder folder;
};

std::vector<std::byte>
read(const Checkpoint& checkpoint, uint32_t file, uint64_t at, uint64_t size) {
  std::vector<std::byte> bytes(size);
  DirectFile(checkpoint.files()[file]).read_exactly(at, bytes);
  return bytes;
}

// Every run that the engine reads: that it checks as it is, and that one
// changed bit is found.
void check_all(const Checkpoint& checkpoint, const ChecksumTable& table) {
  const ExpertLayout layout(checkpoint);
  size_t runs = 0;
  const auto check = [&](uint32_t file, uint64_t offset, uint64_t size) {
    auto bytes = read(checkpoint, file, offset, size);
    CHECK_FALSE(table.check(file, offset, bytes));
    bytes[size / 2] ^= std::byte(8);
    const auto error = table.check(file, offset, bytes);
    REQUIRE(error);
    CHECK(error->find("offset " + std::to_string(offset)) != std::string::npos);
    CHECK(error->find(TestMoe::shard_name(file)) != std::string::npos);
    ++runs;
  };
  for (const auto& tensor : checkpoint.tensors()) {
    if (!layout.is_expert_tensor(tensor.name)) {
      check(tensor.file, tensor.offset, tensor.bytes);
    }
  }
  for (const auto& layer : layout.layers()) {
    for (uint16_t e = 0; e < layer.experts; ++e) {
      for (const auto& section : layout.sections({layer.layer, e})) {
        check(section.file, section.file_offset, section.bytes);
      }
    }
  }
  CHECK(table.size() == runs);
}

} // namespace

TEST_CASE("checksums: every dense tensor and expert section is covered") {
  for (const bool stacked : {true, false}) {
    const Model model({.bits = 4, .stacked = stacked});
    check_all(model.open(), model.compute());
    check_all(model.open(), model.compute("pread"));
  }
}

TEST_CASE("checksums: tensors larger than the buffer are summed in pieces") {
  const TempFolder folder;
  Rng rng(51);
  folder.write("config.json", "{\"model_type\":\"t\"}");
  folder.write(
      "model.safetensors",
      safetensors_file(
          {random_tensor(rng, "a", Dtype::u8, {3'000'001}),
           random_tensor(rng, "b", Dtype::u8, {17'000'003}),
           random_tensor(rng, "none", Dtype::u8, {0}),
           random_tensor(rng, "c", Dtype::u8, {5})}));
  const auto checkpoint = Checkpoint::open(folder.path());
  const auto reader = make_reader("auto", checkpoint.files(), {});
  const auto table =
      ChecksumTable::compute(checkpoint, ExpertLayout(checkpoint), *reader);
  CHECK(table.size() == 3);
  for (const auto& tensor : checkpoint.tensors()) {
    CHECK_FALSE(table.check(
        0, tensor.offset, read(checkpoint, 0, tensor.offset, tensor.bytes)));
  }
}

TEST_CASE("checksums: what is saved is loaded") {
  const Model model;
  const auto path = model.folder.path() / "sums.json";
  model.compute().save(path);
  model.compute().save(path); // over the old file
  check_all(model.open(), ChecksumTable::load(path, model.open()));
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(model.folder.path())) {
    files += entry.path().string().find("sums") != std::string::npos;
  }
  CHECK(files == 1); // no temporary file is left
}

TEST_CASE("checksums: a folder that cannot be written is an error") {
  const Model model;
  CHECK_THROWS_WITH_AS(
      model.compute().save(model.folder.path() / "none" / "sums.json"),
      doctest::Contains("sums.json"),
      Error);
}

TEST_CASE("checksums: a run of other bounds has no checksum") {
  const Model model;
  const auto checkpoint = model.open();
  const auto table = model.compute();
  const TensorInfo& tensor = checkpoint.get("model.norm.weight");
  const auto bytes = read(checkpoint, tensor.file, tensor.offset, tensor.bytes);
  const std::span all(bytes);
  CHECK_FALSE(table.check(tensor.file, tensor.offset, all));
  CHECK(table.check(tensor.file, tensor.offset, all.first(5)));
  CHECK(table.check(tensor.file, tensor.offset + 1, all.subspan(1)));
  CHECK(table.check(77, tensor.offset, all));
  CHECK_FALSE(table.check(0, 1, {}));
}

TEST_CASE("checksums: a file for another model is refused") {
  const Model model;
  const auto path = model.folder.path() / "sums.json";
  model.compute().save(path);
  const Model other({.layers = 3, .bits = 4});
  try {
    ChecksumTable::load(path, other.open());
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::bad_model);
    CHECK(std::string(error.what()).find("other files") != std::string::npos);
  }
}

TEST_CASE("checksums: files that are no checksums are refused") {
  const Model model;
  const auto checkpoint = model.open();
  const auto code = [&](const std::string& text) {
    const auto path = model.folder.write("bad.json", text);
    try {
      ChecksumTable::load(path, checkpoint);
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("bad.json") != std::string::npos);
      return error.code();
    }
    return ErrorCode::internal;
  };
  const std::string format = "{\"format\":\"mlx-flash checksums 1\",";
  for (const std::string& text : std::vector<std::string>{
           "",
           "[]",
           "{}",
           "{\"format\":\"other\",\"files\":[],\"runs\":[]}",
           format + "\"files\":[],\"runs\":[]}",
           format + "\"files\":[{\"name\":1}]}",
           format + "\"runs\":[[]]}",
           format + "\"runs\":[[0,1,2]]}",
           format + "\"runs\":[[0,1,2,\"12\"]]}",
           format + "\"runs\":[[0,1,2,\"0123456789abcdeg\"]]}",
           format + "\"runs\":[[0,1,2,\"0123456789abcdef\",1]]}",
           format + "\"runs\":[[4294967296,1,2,\"0123456789abcdef\"]]}",
           format +
               "\"runs\":[[0,9,2,\"0123456789abcdef\"],"
               "[0,9,2,\"0123456789abcdef\"]]}"}) {
    CAPTURE(text);
    CHECK(code(text) == ErrorCode::bad_model);
  }
  CHECK_THROWS_AS(
      ChecksumTable::load(model.folder.path() / "absent", checkpoint), Error);
}

TEST_CASE("checksums: a read that fails makes none") {
  const Model model;
  const auto checkpoint = model.open();
  const auto reader = MemoryReader::load(checkpoint.files(), {.io_error = 0.2});
  try {
    ChecksumTable::compute(checkpoint, ExpertLayout(checkpoint), *reader);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::io);
    CHECK(
        std::string(error.what()).find("Input/output error") !=
        std::string::npos);
  }
}

TEST_CASE("checksums: silent corruption on the way is found") {
  const Model model;
  const auto checkpoint = model.open();
  const auto table = model.compute();
  const auto reader = MemoryReader::load(checkpoint.files(), {.corruption = 1});
  const TensorInfo& tensor = checkpoint.get("model.norm.weight");
  std::vector<std::byte> bytes(tensor.bytes);
  const ReadRequest request{tensor.file, tensor.offset, bytes, 1};
  reader->submit({&request, 1});
  std::vector<ReadCompletion> completions;
  reader->wait(completions);
  REQUIRE_FALSE(completions.at(0).error);
  CHECK(table.check(tensor.file, tensor.offset, bytes));
}
