// Standard output and standard error, written at once and in full: a reader
// that follows a stream sees each piece as it comes, and a failed write is
// noticed.
//
// Thread rule: one thread writes.
#pragma once

#include <string>
#include <string_view>

namespace mlx_flash::cli {

// Standard output, which may lose its reader (`mlx-flash run ... | head`).
// That is no error: what is written after it is dropped.
class Output {
 public:
  Output() = default;
  ~Output(); // ends the line, so that an error message begins its own
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // False when nothing more can be written, which a long task ends for.
  bool write(std::string_view text);

  // Ends a text that may or may not have its newline.
  void end_line();

  // Throws Error(io) when a write failed for another reason than a reader
  // that has gone.
  void check() const;

  bool reader_gone() const;

 private:
  int error_ = 0; // errno of the first failed write
  bool at_line_start_ = true;
};

// Writes a whole answer. Returns the exit code 0, throws as check().
int print(std::string_view text);

// A file that is known to be writable before there is anything to write. What
// it holds stays until then.
class OutputFile {
 public:
  // Throws Error(io), as write().
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // `text` in place of what the file held.
  void write(std::string_view text);

 private:
  const std::string path_;
  const int descriptor_;
};

// Writes to standard error; what fails there has nowhere to be reported.
void print_error(std::string_view text);

} // namespace mlx_flash::cli
