#include "cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace mlx_flash::cli {

namespace {

// Returns 0 or an errno.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno != EINTR) {
      return errno;
    }
    text.remove_prefix(written < 0 ? 0 : static_cast<size_t>(written));
  }
  return 0;
}

} // namespace

Output::~Output() {
  end_line();
}

bool Output::write(std::string_view text) {
  if (error_ == 0 && !text.empty()) {
    error_ = write_all(STDOUT_FILENO, text);
    at_line_start_ = text.back() == '\n';
  }
  return error_ == 0;
}

void Output::end_line() {
  if (!at_line_start_) {
    write("\n");
  }
}

void Output::check() const {
  if (error_ != 0 && !reader_gone()) {
    fail(
        ErrorCode::io,
        "[stdout] writing the output failed: {}",
        std::strerror(error_));
  }
}

bool Output::reader_gone() const {
  return error_ == EPIPE;
}

int print(std::string_view text) {
  Output output;
  output.write(text);
  output.check();
  return 0;
}

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    fail(
        ErrorCode::io,
        "[output] cannot write {}: {}",
        path_,
        std::strerror(errno));
  }
}

OutputFile::~OutputFile() {
  ::close(descriptor_);
}

void OutputFile::write(std::string_view text) {
  struct stat info{};
  const bool file =
      ::fstat(descriptor_, &info) == 0 && (info.st_mode & S_IFMT) == S_IFREG;
  int error = file && ::ftruncate(descriptor_, 0) != 0 ? errno : 0;
  if (error == 0) {
    error = write_all(descriptor_, text);
  }
  if (error != 0) {
    fail(
        ErrorCode::io,
        "[output] cannot write {}: {}",
        path_,
        std::strerror(error));
  }
}

void print_error(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

} // namespace mlx_flash::cli
