#include "platform/new_file.h"

#include <sys/stat.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "base/read_file.h"
#include "mlx_flash/error.h"
#include "platform/direct_file.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

} // namespace

TEST_CASE("a new file has its name and its bytes once it is finished") {
  const TempFolder temp;
  const AlignedBuffer buffer(2 * NewFile::kBlockBytes);
  const auto path = temp.path() / "file";
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    text += std::to_string(i); // longer than the buffer
  }
  NewFile file(path, buffer.span());
  file.append(bytes_of(text).first(3));
  file.append(bytes_of(text).subspan(3));
  CHECK_FALSE(std::filesystem::exists(path));
  file.finish();
  std::string found = read_file(path, 1 << 20);
  CHECK(found.size() % NewFile::kBlockBytes == 0);
  CHECK(found.size() < text.size() + NewFile::kBlockBytes);
  CHECK(std::all_of(
      found.begin() + text.size(), found.end(), [](char c) { return c == 0; }));
  found.resize(text.size());
  CHECK(found == text);
}

TEST_CASE("a file that is not finished leaves nothing behind") {
  const TempFolder temp;
  const AlignedBuffer buffer(NewFile::kBlockBytes);
  {
    NewFile file(temp.path() / "file", buffer.span());
    file.append(bytes_of("some"));
    CHECK(std::filesystem::exists(temp.path() / "file.part"));
  }
  CHECK(std::filesystem::is_empty(temp.path()));
}

TEST_CASE("a new file takes the place of what a killed process left") {
  const TempFolder temp;
  const AlignedBuffer buffer(NewFile::kBlockBytes);
  const auto path = temp.path() / "file";
  temp.write("file.part", "half");
  temp.write("file", "old");
  NewFile file(path, buffer.span());
  file.append(bytes_of("new"));
  file.finish();
  CHECK(read_file(path, 1 << 20).substr(0, 3) == "new");
  CHECK_FALSE(std::filesystem::exists(temp.path() / "file.part"));
}

TEST_CASE("a new file is its owner's alone and not in the page cache") {
  const TempFolder temp;
  const AlignedBuffer buffer(NewFile::kBlockBytes);
  const auto path = temp.path() / "file";
  NewFile file(path, buffer.span());
  const std::vector<std::byte> many(100000);
  file.append(many);
  file.finish();
  struct stat info;
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  if (!temp.is_in_memory()) {
    CHECK(page_cache_bytes(path) == 0);
  }
}

TEST_CASE("a file that cannot be made says why") {
  const TempFolder temp;
  const AlignedBuffer buffer(NewFile::kBlockBytes);
  CHECK_THROWS_WITH_AS(
      NewFile(temp.path() / "none" / "file", buffer.span()),
      doctest::Contains("cannot make"),
      Error);
}
