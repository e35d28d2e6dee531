#include "server/api/openai_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "server/api_error.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

// vLLM's name and llama.cpp's.
std::optional<double> read_repetition_penalty(Fields& fields) {
  const auto penalty = fields.number("repetition_penalty", 0.01, 100);
  const auto same = fields.number("repeat_penalty", 0.01, 100);
  if (penalty && same && *penalty != *same) {
    fields.reject("repeat_penalty", "contradicts repetition_penalty");
  }
  return penalty ? penalty : same;
}

TokenId read_token_id(const Fields& biases, const std::string& text) {
  TokenId id = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, id);
  if (error != std::errc() || stop != end) {
    const std::string name = text.substr(0, 64);
    biases.reject(name.c_str(), "must be named by a token's id");
  }
  return id;
}

std::vector<LogitBias> read_logit_bias(
    Fields& fields,
    const ServerLimits& limits) {
  const Json* object = fields.object("logit_bias");
  std::vector<LogitBias> biases;
  if (!object) {
    return biases;
  }
  if (object->size() > limits.logit_bias) {
    fields.reject(
        "logit_bias",
        fmt::format(
            "must have at most {} entries, not {}",
            limits.logit_bias,
            object->size()));
  }
  Fields entries(*object, "logit_bias");
  for (const auto& [key, value] : object->items()) {
    const TokenId id = read_token_id(entries, key);
    const auto bias = entries.number(key.c_str(), -100, 100);
    biases.push_back({id, static_cast<float>(bias.value_or(0))});
  }
  return biases;
}

} // namespace

SamplingWishes read_sampling(Fields& fields, const ServerLimits& limits) {
  SamplingWishes wishes;
  wishes.temperature = fields.number("temperature", 0, 2);
  wishes.top_p = fields.number("top_p", 0, 1);
  wishes.top_k = fields.integer("top_k", -1, INT32_MAX);
  if (wishes.top_k == -1) {
    wishes.top_k = 0; // vLLM's word for all of them
  }
  wishes.min_p = fields.number("min_p", 0, 1);
  wishes.repetition_penalty = read_repetition_penalty(fields);
  wishes.presence_penalty = fields.number("presence_penalty", -2, 2);
  wishes.frequency_penalty = fields.number("frequency_penalty", -2, 2);
  wishes.logit_bias = read_logit_bias(fields, limits);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    wishes.seed = static_cast<uint64_t>(*seed);
  }
  return wishes;
}

std::vector<std::string> read_stop_strings(
    Fields& fields,
    const ServerLimits& limits) {
  const size_t most = std::min<size_t>(4, limits.stop_strings);
  auto stops = fields.texts("stop", most, limits.stop_string_bytes)
                   .value_or(std::vector<std::string>());
  if (std::any_of(stops.begin(), stops.end(), [](const std::string& each) {
        return each.empty();
      })) {
    fields.reject("stop", "must not hold an empty string");
  }
  return stops;
}

std::optional<uint64_t>
read_max_tokens(Fields& fields, const ServerLimits& limits, uint64_t least) {
  const auto read = [&](const char* field) {
    return fields.integer(
        field,
        static_cast<int64_t>(least),
        static_cast<int64_t>(limits.max_tokens));
  };
  const auto older = read("max_tokens");
  const auto newer = read("max_completion_tokens");
  if (older && newer && *older != *newer) {
    fields.reject("max_tokens", "contradicts max_completion_tokens");
  }
  const auto most = newer ? newer : older;
  return most ? std::optional<uint64_t>(*most) : std::nullopt;
}

uint64_t read_choices(Fields& fields, const ServerLimits& limits) {
  const auto n = fields.integer("n", 1, static_cast<int64_t>(limits.choices));
  return static_cast<uint64_t>(n.value_or(1));
}

StreamWishes read_stream_wishes(Fields& fields) {
  StreamWishes wishes;
  wishes.stream = fields.boolean("stream").value_or(false);
  wishes.return_progress = fields.boolean("return_progress").value_or(false);
  const Json* options = fields.object("stream_options");
  if (!options) {
    return wishes;
  }
  if (!wishes.stream) {
    fields.reject("stream_options", "is for requests with stream: true");
  }
  Fields inner(*options, fields.path("stream_options"));
  wishes.include_usage = inner.boolean("include_usage").value_or(false);
  inner.refuse(
      "include_obfuscation", "cannot be had: nothing is padded", {"false"});
  inner.done();
  return wishes;
}

void accept_harmless(Fields& fields) {
  fields.accept({
      "metadata",
      "prediction",
      "prompt_cache_key",
      "prompt_cache_options",
      "prompt_cache_retention",
      "safety_identifier",
      "service_tier",
      "store",
      "user",
  });
}

} // namespace mlx_flash::server
