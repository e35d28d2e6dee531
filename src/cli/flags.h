// The flags and positional arguments of one command. A thin face over CLI11,
// so that one source file pays for compiling it and no message is CLI11's.
//
// Each call declares one flag: its names ("--memory,--ram"), where its value
// goes, and its line in --help. A variable that is not mentioned on the
// command line stays as it was.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mlx_flash::cli {

class Flags {
 public:
  // `command` is such as "mlx-flash run".
  Flags(const std::string& command, const std::string& summary);
  ~Flags();

  // Flags that follow are listed under this heading.
  void group(const char* heading);

  void positional(
      const char* name,
      std::optional<std::string>& value,
      const char* help);
  void toggle(const char* names, bool& value, const char* help);
  void text(
      const char* names,
      std::optional<std::string>& value,
      const char* placeholder,
      const char* help);
  // May be given several times.
  void texts(
      const char* names,
      std::vector<std::string>& values,
      const char* placeholder,
      const char* help);
  // Two values, one after the other.
  void pair(
      const char* names,
      std::optional<std::pair<std::string, std::string>>& values,
      const char* placeholders,
      const char* help);
  // One of `choices`.
  void choice(
      const char* names,
      std::optional<std::string>& value,
      std::vector<std::string> choices,
      const char* help);
  // A whole number of at least `least` and at most `most`.
  void count(
      const char* names,
      std::optional<uint64_t>& value,
      uint64_t least,
      uint64_t most,
      const char* help);
  // The same, as often as wanted.
  void counts(
      const char* names,
      std::vector<uint64_t>& values,
      uint64_t least,
      uint64_t most,
      const char* help);
  // Several in one value: "128,512", or "none".
  void count_list(
      const char* names,
      std::optional<std::vector<uint64_t>>& values,
      uint64_t least,
      uint64_t most,
      const char* help);
  void number(const char* names, std::optional<float>& value, const char* help);

  // The arguments after the command's name. False when --help was among
  // them. Throws Error(invalid_argument) for one that is unknown, with the
  // nearest known name, and for a value that does not fit its flag.
  bool parse(std::vector<std::string> arguments);

  // `footer` comes after the list of flags.
  std::string help(const std::string& footer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

} // namespace mlx_flash::cli
