#include "server/api/ollama_options.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api_error.h"
#include "server/schema_text.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

constexpr double kHundredYears = 100 * 365.25 * 24 * 3600;
constexpr int64_t kMostContext = int64_t{1} << 40;

// How the model is held in memory, and how text is moved on within it: that is
// decided when the server starts, and changes no answer.
void accept_harmless(Fields& options) {
  options.accept(
      {"num_keep",
       "num_batch",
       "num_gpu",
       "main_gpu",
       "num_thread",
       "num_gqa",
       "numa",
       "low_vram",
       "f16_kv",
       "logits_all",
       "use_mmap",
       "use_mlock",
       "draft_num_predict",
       // Without effect while `mirostat` is 0, and no other value is taken.
       "mirostat_tau",
       "mirostat_eta"});
}

void refuse_others(Fields& options) {
  options.refuse("typical_p", "is not supported; 1 is off", {"1"});
  options.refuse("tfs_z", "is not supported; 1 is off", {"1"});
  options.refuse("mirostat", "is not supported; 0 is off", {"0"});
  options.refuse(
      "penalize_newline",
      "cannot be false: penalties count every token",
      {"true"});
  options.refuse("vocab_only", "is not supported", {"false"});
  options.refuse("embedding_only", "is not supported", {"false"});
}

SamplingWishes read_sampling(Fields& options) {
  SamplingWishes wishes;
  wishes.temperature = options.number("temperature", 0, 100);
  wishes.top_k = options.integer("top_k", -1, 1 << 30);
  if (wishes.top_k == -1) {
    wishes.top_k = 0; // both are "all" in Ollama
  }
  wishes.top_p = options.number("top_p", 0, 1);
  wishes.min_p = options.number("min_p", 0, 1);
  wishes.repetition_penalty = options.number("repeat_penalty", 0.01, 100);
  wishes.presence_penalty = options.number("presence_penalty", -100, 100);
  wishes.frequency_penalty = options.number("frequency_penalty", -100, 100);
  const auto seed = options.integer("seed", INT64_MIN, INT64_MAX);
  if (seed && *seed != -1) { // -1: another one each time
    wishes.seed = static_cast<uint64_t>(*seed);
  }
  return wishes;
}

// How far back penalties look: all the way, so that another number can only be
// honoured where nothing is penalised.
void check_repeat_last_n(Fields& options, const SamplingWishes& wishes) {
  const auto last = options.integer("repeat_last_n", -1, kMostContext);
  const bool penalised = wishes.repetition_penalty.value_or(1) != 1 ||
      wishes.presence_penalty.value_or(0) != 0 ||
      wishes.frequency_penalty.value_or(0) != 0;
  if (last && *last != -1 && penalised) {
    options.reject(
        "repeat_last_n",
        "cannot be honoured: penalties look back at all tokens; leave it out "
        "or set it to -1");
  }
}

std::optional<uint64_t> read_num_predict(
    Fields& options,
    const ServerLimits& limits) {
  const auto most = static_cast<int64_t>(limits.max_tokens);
  const auto wanted = options.integer("num_predict", -2, most);
  if (wanted == 0) {
    options.reject(
        "num_predict",
        "cannot be 0; -1 and -2 are without a limit, and an empty prompt loads "
        "the model");
  }
  if (!wanted) {
    return std::nullopt;
  }
  // -1: without end; -2: until the context is full. Both end there.
  return static_cast<uint64_t>(*wanted < 0 ? most : *wanted);
}

std::vector<std::string> read_stop(
    Fields& options,
    const ServerLimits& limits) {
  auto texts =
      options.texts("stop", limits.stop_strings, limits.stop_string_bytes);
  for (const std::string& text : texts.value_or(std::vector<std::string>{})) {
    if (text.empty()) {
      options.reject("stop", "must hold no empty string");
    }
  }
  return std::move(texts).value_or(std::vector<std::string>{});
}

} // namespace

OllamaOptions read_ollama_options(Fields& body, const ServerLimits& limits) {
  const Json* value = body.object("options");
  if (!value) {
    return {};
  }
  Fields options(*value, body.path("options"));
  OllamaOptions read;
  read.sampling = read_sampling(options);
  check_repeat_last_n(options, read.sampling);
  read.max_tokens = read_num_predict(options, limits);
  read.stop_strings = read_stop(options, limits);
  if (const auto context = options.integer("num_ctx", 1, kMostContext)) {
    read.context = static_cast<uint64_t>(*context);
  }
  accept_harmless(options);
  refuse_others(options);
  options.done();
  return read;
}

Constraint read_ollama_format(Fields& body, const ServerLimits& limits) {
  const Json* value = body.value("format");
  if (!value || *value == "") { // "" is none, to Ollama
    return {};
  }
  if (*value == "json") {
    return {Constraint::Kind::json_schema, R"({"type":"object"})"};
  }
  if (!value->is_object()) {
    body.reject("format", "must be \"json\" or a JSON schema");
  }
  return {
      Constraint::Kind::json_schema,
      schema_text(*value, body.path("format"), limits)};
}

OllamaThink read_ollama_think(Fields& body) {
  const Json* value = body.value("think");
  if (!value) {
    return {};
  }
  if (value->is_boolean()) {
    return {value->get<bool>(), {}};
  }
  for (const char* level : {"low", "medium", "high", "max"}) {
    if (*value == level) {
      // "max" is the highest there is, which templates call "high".
      return {true, *value == "max" ? "high" : level};
    }
  }
  body.reject(
      "think", "must be true, false, \"low\", \"medium\", \"high\" or \"max\"");
}

std::optional<double> read_ollama_keep_alive(Fields& body) {
  const Json* value = body.value("keep_alive");
  if (!value) {
    return std::nullopt;
  }
  std::optional<double> seconds;
  if (value->is_string()) {
    seconds = parse_duration(value->get_ref<const std::string&>());
  } else if (value->is_number()) {
    seconds = value->get<double>();
  }
  if (!seconds || *seconds > kHundredYears) {
    body.reject(
        "keep_alive",
        "must be a number of seconds or a duration such as \"5m\" or "
        "\"1h30m\", of a hundred years at most; negative: for as long as the "
        "server runs");
  }
  return *seconds < 0 ? -1 : *seconds;
}

namespace {

struct Unit {
  std::string_view name;
  double seconds;
};
// In this order: "m" begins "ms" too.
constexpr std::array<Unit, 8> kUnits{{
    {"ns", 1e-9},
    {"us", 1e-6},
    {"\u00b5s", 1e-6}, // micro sign
    {"\u03bcs", 1e-6}, // mu
    {"ms", 1e-3},
    {"h", 3600},
    {"m", 60},
    {"s", 1},
}};

// Takes a number such as "1.5" from the front; empty without a digit.
std::optional<double> take_number(std::string_view& text) {
  double value = 0;
  double place = 0; // of the next digit, behind the point
  bool any = false;
  for (; !text.empty(); text.remove_prefix(1)) {
    const char c = text[0];
    if (c == '.' && place == 0) {
      place = 0.1;
    } else if (c >= '0' && c <= '9') {
      any = true;
      value = place == 0 ? value * 10 + (c - '0') : value + (c - '0') * place;
      place /= 10;
    } else {
      break;
    }
  }
  return any ? std::optional(value) : std::nullopt;
}

const Unit* take_unit(std::string_view& text) {
  for (const Unit& unit : kUnits) {
    if (text.substr(0, unit.name.size()) == unit.name) {
      text.remove_prefix(unit.name.size());
      return &unit;
    }
  }
  return nullptr;
}

} // namespace

std::optional<double> parse_duration(std::string_view text) {
  if (text.size() > 64) {
    return std::nullopt;
  }
  double sign = 1;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    sign = text[0] == '-' ? -1 : 1;
    text.remove_prefix(1);
  }
  double seconds = 0;
  bool first = true;
  do {
    const auto number = take_number(text);
    if (!number) {
      return std::nullopt;
    }
    const bool bare = first && text.empty();
    const Unit* unit = bare ? nullptr : take_unit(text);
    if (!bare && !unit) {
      return std::nullopt;
    }
    seconds += *number * (bare ? 1 : unit->seconds);
    first = false;
  } while (!text.empty());
  return seconds <= kHundredYears ? std::optional(sign * seconds)
                                  : std::nullopt;
}

} // namespace mlx_flash::server
