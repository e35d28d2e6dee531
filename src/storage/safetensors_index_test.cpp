// A naive writer makes files; the parser must find in them what was written.
// Then each rule is broken, one by one, and the refusal must name the file,
// the tensor and the rule.
#include "storage/safetensors_index.h"

#include <algorithm>
#include <functional>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/test_model.h"
#include "storage/test_peak_memory.h"

using namespace mlx_flash;

namespace {

// The message of the refusal, or nothing if `header` is accepted.
std::string refusal(const std::string& header, uint64_t data_bytes) {
  try {
    parse_safetensors_header(header, 8 + header.size() + data_bytes, "a/file");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::bad_model);
    const std::string text = error.what();
    CHECK(text.find("a/file") != std::string::npos);
    return text;
  }
  return {};
}

void check_refused(
    const std::string& header,
    uint64_t data_bytes,
    const std::string& reason) {
  const std::string text = refusal(header, data_bytes);
  CAPTURE(header);
  CAPTURE(text);
  CHECK(text.find(reason) != std::string::npos);
}

std::string tensor(
    const std::string& name,
    const std::string& dtype,
    const std::string& shape,
    const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
      ",\"data_offsets\":" + offsets + "}";
}

// Four bytes called "a", then what `rest` says.
std::string header_with(const std::string& rest) {
  return "{" + tensor("a", "F32", "[1]", "[0,4]") + rest + "}";
}

std::vector<TestTensor> random_tensors(Rng& rng) {
  std::vector<TestTensor> tensors;
  const uint64_t count = rng.below(8);
  for (uint64_t i = 0; i < count; ++i) {
    std::vector<int64_t> shape(rng.below(4));
    for (auto& dim : shape) {
      dim = static_cast<int64_t>(rng.below(5));
    }
    tensors.push_back(random_tensor(
        rng,
        "layer." + std::to_string(i) + (rng.below(2) ? ".weight" : "\xc3\xa9"),
        static_cast<Dtype>(rng.below(16)),
        shape));
  }
  return tensors;
}

} // namespace

TEST_CASE("safetensors: what a writer wrote is found, wherever it lies") {
  TempFolder folder;
  const uint64_t seed = 11;
  CAPTURE(seed);
  Rng rng(seed);
  for (int i = 0; i < 100; ++i) {
    CAPTURE(i);
    const auto tensors = random_tensors(rng);
    const auto path = folder.write("x.safetensors", safetensors_file(tensors));
    const auto found = read_safetensors_index(path);
    const DirectFile file(path);
    REQUIRE(found.size() == tensors.size());
    for (size_t t = 0; t < found.size(); ++t) {
      CHECK(found[t].file == 0);
      CHECK((t == 0 || found[t].offset >= found[t - 1].offset));
      const auto written = std::find_if(
          tensors.begin(), tensors.end(), [&](const TestTensor& w) {
            return w.name == found[t].name;
          });
      REQUIRE(written != tensors.end());
      CHECK(dtype_name(found[t].dtype) == written->dtype);
      CHECK(found[t].shape == written->shape);
      REQUIRE(found[t].bytes == written->bytes.size());
      std::string bytes(found[t].bytes, '\0');
      file.read_exactly(
          found[t].offset, std::as_writable_bytes(std::span(bytes)));
      CHECK(bytes == written->bytes);
    }
  }
}

TEST_CASE("safetensors: a mutated header is refused or describes the file") {
  const uint64_t seed = 12;
  CAPTURE(seed);
  Rng rng(seed);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto tensors = random_tensors(rng);
    std::string header = safetensors_header(tensors);
    uint64_t data_bytes = 0;
    for (const auto& t : tensors) {
      data_bytes += t.bytes.size();
    }
    const uint64_t mutations = 1 + rng.below(3);
    for (uint64_t m = 0; m < mutations; ++m) {
      static const std::string_view bytes = "{}[]\",:0123456789ABUFdtz \xc3";
      const uint64_t at = rng.below(header.size());
      switch (rng.below(3)) {
        case 0:
          header[at] = bytes[rng.below(bytes.size())];
          break;
        case 1:
          header.insert(at, 1, bytes[rng.below(bytes.size())]);
          break;
        default:
          header.erase(at, 1);
      }
    }
    CAPTURE(header);
    std::vector<TensorInfo> found;
    const uint64_t file_bytes = 8 + header.size() + data_bytes;
    try {
      found = parse_safetensors_header(header, file_bytes, "f");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::bad_model);
      continue;
    }
    ++accepted;
    // Then it is JSON, and its tensors cover the data exactly.
    REQUIRE(nlohmann::json::accept(header));
    uint64_t covered = 8 + header.size();
    for (const auto& t : found) {
      REQUIRE(t.offset == covered);
      uint64_t bytes = dtype_bytes(t.dtype);
      for (const int64_t dim : t.shape) {
        bytes *= static_cast<uint64_t>(dim);
      }
      REQUIRE(t.bytes == bytes);
      covered += bytes;
    }
    REQUIRE(covered == file_bytes);
  }
  CHECK(accepted > 100);
}

TEST_CASE("safetensors: the smallest files are fine") {
  CHECK(refusal("{}", 0).empty());
  CHECK(refusal("{}    \n", 0).empty()); // padded
  CHECK(refusal(header_with(""), 4).empty());
  // A scalar, and an empty tensor between two others.
  const std::string three = header_with(
      "," + tensor("b", "F16", "[0,7]", "[4,4]") + "," +
      tensor("c", "BF16", "[]", "[4,6]"));
  CHECK(refusal(three, 6).empty());
  CHECK(refusal("{\"__metadata__\":{}}", 0).empty());
}

TEST_CASE("safetensors: headers that are no JSON object are refused") {
  check_refused("", 0, "before the first brace");
  check_refused(" {}", 0, "before the first brace");
  check_refused("[]", 0, "before the first brace");
  check_refused("{", 0, "the name of a member is expected");
  check_refused("{}{}", 0, "follows the end");
  check_refused("{\"a\":1}", 0, "an object is expected");
  check_refused("{\"a\":[]}", 0, "an object is expected");
  check_refused("{\"\xff\":{}}", 0, "UTF-8");
}

TEST_CASE("safetensors: metadata is text to text, once") {
  check_refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
  check_refused("{\"__metadata__\":[]}", 0, "an object is expected");
  check_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "second time");
  std::string many = "\"\":\"\"";
  for (int i = 0; i < 70'000; ++i) {
    many += ",\"\":\"\"";
  }
  check_refused("{\"__metadata__\":{" + many + "}}", 0, "65,536 entries");
}

TEST_CASE("safetensors: incomplete and strange tensors are refused by name") {
  check_refused("{\"a\":{}}", 0, "tensor 'a' lacks");
  check_refused(
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor 'a' lacks");
  check_refused(
      "{" + tensor("a", "Q4_K", "[1]", "[0,4]") + "}",
      4,
      "tensor 'a' has the unknown dtype 'Q4_K'");
  check_refused(
      "{" + tensor("a", "f32", "[1]", "[0,4]") + "}", 4, "unknown dtype");
  check_refused(
      "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],"
      "\"data_offsets\":[0,1]}}",
      1,
      "tensor 'a' has a field twice");
  check_refused(
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],"
      "\"x\":1}}",
      1,
      "tensor 'a' has the unknown field 'x'");
  for (const char* shape : {"1", "[1.0]", "[-1]", "[\"1\"]", "null", "[[1]]"}) {
    CAPTURE(shape);
    CHECK_FALSE(
        refusal("{" + tensor("a", "F32", shape, "[0,4]") + "}", 4).empty());
  }
  for (const char* offsets :
       {"[0]", "[0,4,4]", "[4,0]", "[-4,0]", "4", "[0,4.0]", "{}"}) {
    CAPTURE(offsets);
    CHECK_FALSE(
        refusal("{" + tensor("a", "F32", "[1]", offsets) + "}", 4).empty());
  }
}

TEST_CASE("safetensors: sizes that do not agree or overflow are refused") {
  check_refused(
      "{" + tensor("a", "F32", "[2]", "[0,4]") + "}",
      4,
      "tensor 'a' has 4 bytes in data_offsets, but 8 by shape and dtype");
  check_refused(
      "{" + tensor("a", "F32", "[4294967296,4294967296]", "[0,4]") + "}",
      4,
      "overflows");
  // 2^62 times 4 is 2^64, which is 0 to careless arithmetic.
  check_refused(
      "{" + tensor("a", "F32", "[4611686018427387904]", "[0,0]") + "}",
      0,
      "overflows");
  check_refused(
      "{" + tensor("a", "U8", "[18446744073709551617]", "[0,1]") + "}",
      1,
      "an integer from 0 to 2^63");
  std::string deep = "[1";
  for (int i = 0; i < 40; ++i) {
    deep += ",1";
  }
  check_refused(
      "{" + tensor("a", "U8", deep + "]", "[0,1]") + "}", 1, "dimensions");
}

TEST_CASE("safetensors: ranges that overlap or leave gaps are refused") {
  check_refused(
      header_with("," + tensor("b", "F32", "[1]", "[2,6]")),
      6,
      "tensor 'b' overlaps 'a'");
  check_refused(
      header_with("," + tensor("b", "F32", "[1]", "[0,4]")), 4, "overlaps");
  check_refused(
      header_with("," + tensor("b", "F32", "[1]", "[5,9]")),
      9,
      "tensor 'b' leaves a gap of 1 bytes before it");
  check_refused(
      "{" + tensor("a", "F32", "[1]", "[4,8]") + "}", 8, "a gap of 4 bytes");
  // An empty tensor inside another.
  check_refused(
      header_with("," + tensor("b", "F32", "[0]", "[2,2]")), 4, "overlaps");
  check_refused(header_with(""), 7, "3 bytes at the end belong to no tensor");
  check_refused(
      header_with(""),
      3,
      "tensor 'a' ends at byte 4 of the data, but the file has 3");
}

TEST_CASE("safetensors: a name that is there twice is refused") {
  check_refused(
      header_with("," + tensor("a", "F32", "[1]", "[4,8]")),
      8,
      "tensor 'a' is there twice");
  // The same name, spelled in another way.
  check_refused(
      header_with("," + tensor("\\u0061", "F32", "[1]", "[4,8]")),
      8,
      "tensor 'a' is there twice");
}

TEST_CASE("safetensors: header lengths are checked before anything is read") {
  TempFolder folder;
  const auto check_file = [&](const std::string& bytes, const char* reason) {
    const auto path = folder.write("model.safetensors", bytes);
    try {
      read_safetensors_index(path);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::bad_model);
      const std::string text = error.what();
      CAPTURE(text);
      CHECK(text.find("model.safetensors") != std::string::npos);
      CHECK(text.find(reason) != std::string::npos);
    }
  };
  check_file("", "past the end of the file (0 bytes)");
  check_file("\2\0\0", "past the end");
  check_file(std::string("\3\0\0\0\0\0\0\0{}", 10), "past the end");
  check_file(std::string(8, '\xff') + "{}", "18446744073709551615 bytes");
  check_file("version https://git-lfs.github.com/spec/v1\n", "past the end");

  // A sparse file that really is that long.
  const auto path =
      folder.write("model.safetensors", std::string("\1\0\x40\6\0\0\0\0{", 9));
  std::filesystem::resize_file(path, 200 << 20);
  CHECK_THROWS_WITH_AS(
      read_safetensors_index(path),
      doctest::Contains("over the 100 MB allowed"),
      Error);
}

TEST_CASE("safetensors: hostile headers of 100 MB take little memory") {
  const TempFolder folder;
  constexpr size_t kHeader = 100 << 20;
  std::string begin = "{\"a\":";
  std::function<std::string(int)> more;
  size_t written = 1 << 20; // the rest are zeros that take no room on disk
  SUBCASE("brackets") {
    more = [](int) { return std::string(4096, '['); };
  }
  SUBCASE("one endless name") {
    begin = "{\"";
    more = [](int) { return std::string(4096, 'a'); };
  }
  SUBCASE("one endless text in the metadata") {
    begin = "{\"__metadata__\":{\"a\":\"";
    written = 20 << 20;
    more = [](int) { return std::string(4096, 'a'); };
  }
  SUBCASE("millions of tensors") {
    begin = header_with("");
    begin.pop_back();
    written = 45 << 20;
    more = [](int i) {
      return "," + tensor(std::to_string(i), "U8", "[0]", "[4,4]");
    };
  }
  SUBCASE("tensors of many dimensions") {
    begin = header_with("");
    begin.pop_back();
    written = 45 << 20;
    more = [](int i) {
      std::string dims = "[0";
      for (int d = 1; d < 32; ++d) {
        dims += ",1";
      }
      return "," + tensor(std::to_string(i), "U8", dims + "]", "[4,4]");
    };
  }
  const auto path = folder.path() / "model.safetensors";
  std::ofstream out(path, std::ios::binary);
  out << with_length(std::string(kHeader, ' ')).substr(0, 8) << begin;
  for (int i = 0; static_cast<size_t>(out.tellp()) < written; ++i) {
    out << more(i);
  }
  out.close();
  std::filesystem::resize_file(path, 8 + kHeader);

  const PeakMemory peak;
  CHECK_THROWS_AS(read_safetensors_index(path), Error);
  CHECK(peak.grown_bytes() < 95 << 20);
}
