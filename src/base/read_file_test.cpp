#include "base/read_file.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "mlx_flash/error.h"

using namespace mlx_flash;

namespace {

// A folder that is gone when the test is over.
struct TempFolder {
  TempFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "mlx_flash_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~TempFolder() {
    std::filesystem::remove_all(path);
  }
  std::filesystem::path path;
};

std::string error_of(const std::filesystem::path& path, ErrorCode code) {
  try {
    (void)read_file(path, 1000);
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("no error for ", path.string());
  return "";
}

} // namespace

TEST_CASE("read_file: every byte, up to the limit") {
  TempFolder folder;
  // More than one block of the reader's, with zeros and line ends.
  std::string text(200'000, '\0');
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * 7);
  }
  const auto path = folder.path / "file";
  std::ofstream(path, std::ios::binary) << text;
  CHECK(read_file(path) == text);
  CHECK(read_file(path, text.size()) == text);
  CHECK_THROWS_AS((void)read_file(path, text.size() - 1), Error);

  std::ofstream(folder.path / "empty");
  CHECK(read_file(folder.path / "empty", 0).empty());
}

TEST_CASE("read_file: what is too large is refused by path and limit") {
  // This one never ends, so the limit holds for what is read and not only for
  // what the file system says.
  try {
    (void)read_file_or_pipe("/dev/zero", 1000);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::bad_model);
    CHECK(std::string(error.what()).find("/dev/zero") != std::string::npos);
    CHECK(std::string(error.what()).find("1000 bytes") != std::string::npos);
  }
}

TEST_CASE("read_file: a pipe is refused at once, unless the user named it") {
  TempFolder folder;
  const auto path = folder.path / "pipe";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK(
      error_of(path, ErrorCode::not_found).find("not a file") !=
      std::string::npos);
  std::thread writer([&] { std::ofstream(path) << "through the pipe"; });
  CHECK(read_file_or_pipe(path, 1000) == "through the pipe");
  writer.join();
}

TEST_CASE("read_file: what is not there or no file is an error by path") {
  TempFolder folder;
  const auto missing = folder.path / "missing.json";
  CHECK(
      error_of(missing, ErrorCode::not_found).find(missing.string()) !=
      std::string::npos);
  CHECK(
      error_of(folder.path, ErrorCode::not_found).find("not a file") !=
      std::string::npos);
  CHECK_THROWS_AS((void)read_file_or_pipe(folder.path, 1000), Error);
}
