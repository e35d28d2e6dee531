#include "cli/flags.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "cli/suggest.h"

namespace mlx_flash::cli {

namespace {

// "--memory" of "--memory,--ram".
std::string first_name(const std::string& names) {
  return names.substr(0, names.find(','));
}

uint64_t parse_count(
    const std::string& name,
    const std::string& text,
    uint64_t least,
    uint64_t most) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < least || value > most) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] {} takes a whole number {}, not '{}'",
        name,
        fmt::format("from {} to {}", least, most),
        text);
  }
  return value;
}

std::vector<uint64_t> parse_count_list(
    const std::string& name,
    const std::string& text,
    uint64_t least,
    uint64_t most) {
  std::vector<uint64_t> values;
  if (text == "none") {
    return values;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(
        parse_count(name, text.substr(begin, end - begin), least, most));
    begin = end + 1;
  }
  return values;
}

float parse_number(const std::string& name, const std::string& text) {
  float value = 0;
  if (!CLI::detail::lexical_cast(text, value) || !std::isfinite(value)) {
    fail(
        ErrorCode::invalid_argument,
        "[flags] {} takes a number, not '{}'",
        name,
        text);
  }
  return value;
}

} // namespace

struct Flags::Impl {
  CLI::App app;
  std::string group = "Flags";

  explicit Impl(const std::string& command, const std::string& summary)
      : app(summary, command) {
    // What is not known is collected, and reported by refuse_unknown().
    app.allow_extras();
    app.set_help_flag("--help,-h", "Show this text")->group("Flags");
    app.get_formatter()->column_width(28);
  }

  // `take` is called for each value, of which there may be `most`.
  void add(
      const char* names,
      const std::string& placeholder,
      const char* help,
      std::function<void(const std::string&)> take,
      size_t most = 1) {
    const std::string name = first_name(names);
    const auto take_all =
        [name, most, take = std::move(take)](const CLI::results_t& values) {
          if (values.size() > most) {
            fail(
                ErrorCode::invalid_argument,
                "[flags] {} is given {} times",
                name,
                values.size());
          }
          for (const std::string& value : values) {
            take(value);
          }
          return true;
        };
    app.add_option(names, take_all, help)
        ->type_name(placeholder)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->group(group);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        result.push_back("--" + name);
      }
    }
    return result;
  }

  void refuse_unknown() const {
    const auto extras = app.remaining();
    const auto known = names();
    for (const std::string& extra : extras) {
      // Behind "--" a flag's name is an argument like any other.
      if (std::find(known.begin(), known.end(), extra) != known.end()) {
        continue;
      }
      if (extra.size() > 1 && extra[0] == '-' && extra != "--") {
        const std::string name = extra.substr(0, extra.find('='));
        fail(
            ErrorCode::invalid_argument,
            "[flags] unknown flag '{}'.{} See {} --help",
            name,
            suggestion(name, known),
            app.get_name());
      }
    }
    for (const std::string& extra : extras) {
      if (extra != "--") {
        fail(
            ErrorCode::invalid_argument,
            "[flags] unexpected argument '{}'; put text with spaces in quotes",
            extra);
      }
    }
  }
};

Flags::Flags(const std::string& command, const std::string& summary)
    : impl_(std::make_unique<Impl>(command, summary)) {}

Flags::~Flags() = default;

void Flags::group(const char* heading) {
  impl_->group = heading;
}

void Flags::positional(
    const char* name,
    std::optional<std::string>& value,
    const char* help) {
  impl_->app
      .add_option(
          name,
          [&value](const CLI::results_t& values) {
            value = values[0];
            return true;
          },
          help)
      ->type_name("");
}

void Flags::toggle(const char* names, bool& value, const char* help) {
  impl_->app.add_flag(names, value, help)
      ->disable_flag_override()
      ->group(impl_->group);
}

void Flags::text(
    const char* names,
    std::optional<std::string>& value,
    const char* placeholder,
    const char* help) {
  impl_->add(names, placeholder, help, [&value](const std::string& text) {
    value = text;
  });
}

void Flags::pair(
    const char* names,
    std::optional<std::pair<std::string, std::string>>& values,
    const char* placeholders,
    const char* help) {
  const std::string name = first_name(names);
  const auto take = [&values, name](const CLI::results_t& both) {
    if (both.size() != 2) {
      fail(
          ErrorCode::invalid_argument,
          "[flags] {} takes two values, once, and not {}",
          name,
          both.size());
    }
    values = {both[0], both[1]};
    return true;
  };
  impl_->app.add_option(names, take, help)
      ->type_name(placeholders)
      ->type_size(2)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(impl_->group);
}

void Flags::texts(
    const char* names,
    std::vector<std::string>& values,
    const char* placeholder,
    const char* help) {
  impl_->add(
      names,
      placeholder,
      help,
      [&values](const std::string& text) { values.push_back(text); },
      SIZE_MAX);
}

void Flags::choice(
    const char* names,
    std::optional<std::string>& value,
    std::vector<std::string> choices,
    const char* help) {
  std::string placeholder;
  for (const std::string& choice : choices) {
    placeholder += (placeholder.empty() ? "" : "|") + choice;
  }
  const std::string name = first_name(names);
  const std::string list = placeholder;
  impl_->add(
      names,
      list,
      help,
      [&value, name, list, choices = std::move(choices)](
          const std::string& text) {
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
          fail(
              ErrorCode::invalid_argument,
              "[flags] {} takes {}, not '{}'.{}",
              name,
              list,
              text,
              suggestion(text, choices));
        }
        value = text;
      });
}

void Flags::count(
    const char* names,
    std::optional<uint64_t>& value,
    uint64_t least,
    uint64_t most,
    const char* help) {
  const std::string name = first_name(names);
  impl_->add(
      names, "N", help, [&value, name, least, most](const std::string& text) {
        value = parse_count(name, text, least, most);
      });
}

void Flags::counts(
    const char* names,
    std::vector<uint64_t>& values,
    uint64_t least,
    uint64_t most,
    const char* help) {
  const std::string name = first_name(names);
  impl_->add(
      names,
      "N",
      help,
      [&values, name, least, most](const std::string& text) {
        values.push_back(parse_count(name, text, least, most));
      },
      SIZE_MAX);
}

void Flags::count_list(
    const char* names,
    std::optional<std::vector<uint64_t>>& values,
    uint64_t least,
    uint64_t most,
    const char* help) {
  const std::string name = first_name(names);
  impl_->add(
      names,
      "N,N,...",
      help,
      [&values, name, least, most](const std::string& text) {
        values = parse_count_list(name, text, least, most);
      });
}

void Flags::number(
    const char* names,
    std::optional<float>& value,
    const char* help) {
  const std::string name = first_name(names);
  impl_->add(names, "X", help, [&value, name](const std::string& text) {
    value = parse_number(name, text);
  });
}

bool Flags::parse(std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end()); // as CLI11 wants them
  try {
    impl_->app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return false;
  } catch (const CLI::ArgumentMismatch& e) {
    // The message begins with the flag's name, then a colon or a space.
    const std::string what = e.what();
    const std::string name = what.substr(0, what.find_first_of(": "));
    const bool has_value = what.find("override") != what.npos;
    fail(
        ErrorCode::invalid_argument,
        "[flags] {}{} {}",
        name.starts_with('-') ? "" : "--",
        name,
        has_value ? "takes no value" : "needs a value");
  } catch (const CLI::ParseError& e) {
    fail(ErrorCode::invalid_argument, "[flags] {}", e.what());
  }
  impl_->refuse_unknown();
  return true;
}

std::string Flags::help(const std::string& footer) const {
  impl_->app.footer(footer);
  std::string text = impl_->app.help();
  // CLI11 leaves two empty lines between groups.
  for (size_t at = 0; (at = text.find("\n\n\n", at)) != text.npos;) {
    text.erase(at, 1);
  }
  return text;
}

} // namespace mlx_flash::cli
