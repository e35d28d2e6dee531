#include "platform/private_folder.h"

#include <sys/stat.h>

#include <doctest/doctest.h>

#include <optional>

#include "mlx_flash/error.h"
#include "platform/temp_folder.h"

using namespace mlx_flash;

TEST_CASE("a private folder is made for its owner alone") {
  const TempFolder temp;
  const PrivateFolder folder(temp.path() / "a" / "b");
  struct stat info;
  REQUIRE(::stat((temp.path() / "a" / "b").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  REQUIRE(::stat((temp.path() / "a" / "b" / "lock").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("a folder that others may read is refused") {
  const TempFolder temp;
  const auto path = temp.path() / "open";
  std::filesystem::create_directory(path);
  ::chmod(path.c_str(), 0755);
  CHECK_THROWS_WITH_AS(
      PrivateFolder{path}, doctest::Contains("chmod 700"), Error);
  ::chmod(path.c_str(), 0700);
  CHECK_NOTHROW(PrivateFolder{path});
}

TEST_CASE("a file in place of a folder is refused") {
  const TempFolder temp;
  CHECK_THROWS_WITH_AS(
      PrivateFolder{temp.write("file", "")},
      doctest::Contains("is no folder"),
      Error);
  CHECK_THROWS_WITH_AS(
      PrivateFolder{temp.path() / "file" / "sub"},
      doctest::Contains("cannot be made"),
      Error);
}

TEST_CASE("a private folder is held by one at a time") {
  const TempFolder temp;
  const auto path = temp.path() / "mine";
  std::optional<PrivateFolder> first(path);
  CHECK_THROWS_WITH_AS(PrivateFolder{path}, doctest::Contains("in use"), Error);
  first.reset();
  CHECK_NOTHROW(PrivateFolder{path});
}
