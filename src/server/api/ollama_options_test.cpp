#include "server/api/ollama_options.h"

#include <doctest/doctest.h>

#include "server/api/test_ollama.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

OllamaOptions options_of(const std::string& options) {
  const Json value = Json::parse(R"({"options":)" + options + "}");
  Fields body(value);
  OllamaOptions read = read_ollama_options(body, ServerLimits{});
  body.done();
  return read;
}

std::string wrong(const std::string& options) {
  return field_of([&] { options_of(options); });
}

Constraint format_of(const std::string& format, size_t schema_bytes = 1000) {
  ServerLimits limits;
  limits.schema_bytes = schema_bytes;
  const Json value = Json::parse(R"({"format":)" + format + "}");
  Fields body(value);
  return read_ollama_format(body, limits);
}

OllamaThink think_of(const std::string& think) {
  const Json value = Json::parse(R"({"think":)" + think + "}");
  Fields body(value);
  return read_ollama_think(body);
}

std::optional<double> keep_of(const std::string& keep) {
  const Json value = Json::parse(R"({"keep_alive":)" + keep + "}");
  Fields body(value);
  return read_ollama_keep_alive(body);
}

} // namespace

TEST_CASE("ollama options: each becomes what a job has for it") {
  const OllamaOptions read = options_of(R"({
      "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05,
      "repeat_penalty": 1.1, "presence_penalty": 1.5, "frequency_penalty": 1,
      "seed": 42, "num_predict": 100, "stop": ["\n", "user:"],
      "num_ctx": 2048})");
  CHECK(read.sampling.temperature == 0.8);
  CHECK(read.sampling.top_k == 20);
  CHECK(read.sampling.top_p == 0.9);
  CHECK(read.sampling.min_p == 0.05);
  CHECK(read.sampling.repetition_penalty == 1.1);
  CHECK(read.sampling.presence_penalty == 1.5);
  CHECK(read.sampling.frequency_penalty == 1);
  CHECK(read.sampling.seed == 42u);
  CHECK(read.max_tokens == 100u);
  CHECK(read.stop_strings == std::vector<std::string>{"\n", "user:"});
  CHECK(read.context == 2048u);
}

TEST_CASE("ollama options: what is not named is left to the model") {
  const OllamaOptions read = options_of("{}");
  CHECK(!read.sampling.temperature);
  CHECK(!read.sampling.top_k);
  CHECK(!read.sampling.repetition_penalty);
  CHECK(!read.sampling.seed);
  CHECK(!read.max_tokens);
  CHECK(read.stop_strings.empty());
  CHECK(!read.context);
  CHECK(!options_of("null").context);
  CHECK(!options_of(R"({"temperature": null})").sampling.temperature);
}

TEST_CASE("ollama options: numbers that stand for none") {
  // All that there is room for, whatever the model's default.
  const uint64_t most = ServerLimits{}.max_tokens;
  CHECK(options_of(R"({"num_predict": -1})").max_tokens == most);
  CHECK(options_of(R"({"num_predict": -2})").max_tokens == most);
  CHECK(!options_of(R"({"seed": -1})").sampling.seed);
  CHECK(options_of(R"({"seed": -2})").sampling.seed == UINT64_MAX - 1);
  CHECK(options_of(R"({"seed": 0})").sampling.seed == 0u);
  CHECK(options_of(R"({"top_k": -1})").sampling.top_k == 0);
  CHECK(options_of(R"({"top_k": 0})").sampling.top_k == 0);
}

TEST_CASE("ollama options: one stop string may stand by itself") {
  CHECK(
      options_of(R"({"stop": "END"})").stop_strings ==
      std::vector<std::string>{"END"});
  CHECK(options_of(R"({"stop": []})").stop_strings.empty());
  CHECK(wrong(R"({"stop": ["a", ""]})") == "options.stop");
  CHECK(wrong(R"({"stop": [1]})") == "options.stop");
}

TEST_CASE("ollama options: values out of range are errors that name them") {
  CHECK(wrong(R"({"temperature": -0.1})") == "options.temperature");
  CHECK(wrong(R"({"temperature": "hot"})") == "options.temperature");
  CHECK(wrong(R"({"top_k": -2})") == "options.top_k");
  CHECK(wrong(R"({"top_k": 1.5})") == "options.top_k");
  CHECK(wrong(R"({"top_p": 1.1})") == "options.top_p");
  CHECK(wrong(R"({"min_p": -1})") == "options.min_p");
  CHECK(wrong(R"({"repeat_penalty": 0})") == "options.repeat_penalty");
  CHECK(wrong(R"({"presence_penalty": 101})") == "options.presence_penalty");
  CHECK(wrong(R"({"frequency_penalty": 1e9})") == "options.frequency_penalty");
  CHECK(wrong(R"({"num_predict": 0})") == "options.num_predict");
  CHECK(wrong(R"({"num_predict": -3})") == "options.num_predict");
  CHECK(wrong(R"({"num_predict": 1e12})") == "options.num_predict");
  CHECK(wrong(R"({"num_ctx": 0})") == "options.num_ctx");
  CHECK(wrong(R"({"num_ctx": -4096})") == "options.num_ctx");
  CHECK(wrong(R"({"seed": 1e300})") == "options.seed");
  CHECK(wrong("[]") == "options");
}

TEST_CASE("ollama options: those of the machine are accepted") {
  CHECK(wrong(R"({
      "num_keep": 5, "num_batch": 2, "num_gpu": 1, "main_gpu": 0,
      "num_thread": 8, "numa": false, "low_vram": true, "f16_kv": true,
      "logits_all": false, "use_mmap": true, "use_mlock": false,
      "vocab_only": false, "embedding_only": false, "draft_num_predict": 4,
      "num_gqa": 8})") == "none");
}

TEST_CASE("ollama options: samplers that are not here must be off") {
  CHECK(wrong(R"({"typical_p": 1.0, "tfs_z": 1, "mirostat": 0,
      "mirostat_tau": 5, "mirostat_eta": 0.1,
      "penalize_newline": true})") == "none");
  CHECK(wrong(R"({"typical_p": 0.7})") == "options.typical_p");
  CHECK(wrong(R"({"tfs_z": 0.5})") == "options.tfs_z");
  CHECK(wrong(R"({"mirostat": 2})") == "options.mirostat");
  CHECK(wrong(R"({"penalize_newline": false})") == "options.penalize_newline");
  CHECK(wrong(R"({"vocab_only": true})") == "options.vocab_only");
  CHECK(wrong(R"({"embedding_only": true})") == "options.embedding_only");
  CHECK(wrong(R"({"new_topic_penalty": 1})") == "options.new_topic_penalty");
}

TEST_CASE("ollama options: how far back penalties look matters only to them") {
  CHECK(wrong(R"({"repeat_last_n": 64})") == "none");
  CHECK(wrong(R"({"repeat_last_n": 64, "repeat_penalty": 1.0})") == "none");
  CHECK(wrong(R"({"repeat_last_n": -1, "repeat_penalty": 1.1})") == "none");
  CHECK(
      wrong(R"({"repeat_last_n": 64, "repeat_penalty": 1.1})") ==
      "options.repeat_last_n");
  CHECK(
      wrong(R"({"repeat_last_n": 0, "presence_penalty": 1})") ==
      "options.repeat_last_n");
  CHECK(wrong(R"({"repeat_last_n": -2})") == "options.repeat_last_n");
}

TEST_CASE("ollama format: JSON of any kind, or of a schema") {
  CHECK(format_of("null").kind == Constraint::Kind::none);
  CHECK(format_of("\"\"").kind == Constraint::Kind::none);
  const Constraint any = format_of("\"json\"");
  CHECK(any.kind == Constraint::Kind::json_schema);
  CHECK(any.source == R"({"type":"object"})");
  const Constraint schema =
      format_of(R"({"type": "object", "properties": {"b": {}, "a": {}}})");
  CHECK(schema.kind == Constraint::Kind::json_schema);
  // In the order of the request, for that is the order of the answer.
  CHECK(schema.source == R"({"type":"object","properties":{"b":{},"a":{}}})");
}

TEST_CASE("ollama format: anything else, or too much, is an error") {
  CHECK(field_of([] { format_of("\"xml\""); }) == "format");
  CHECK(field_of([] { format_of("true"); }) == "format");
  CHECK(field_of([] { format_of("[]"); }) == "format");
  CHECK(field_of([] { format_of(R"({"a":"123456"})", 14); }) == "none");
  CHECK(field_of([] { format_of(R"({"a":"1234567"})", 14); }) == "format");
}

TEST_CASE("ollama think: a truth or a level") {
  CHECK(!think_of("null").wanted);
  CHECK(think_of("true").wanted == true);
  CHECK(think_of("true").effort.empty());
  CHECK(think_of("false").wanted == false);
  CHECK(think_of("\"low\"").wanted == true);
  CHECK(think_of("\"low\"").effort == "low");
  CHECK(think_of("\"max\"").effort == "high");
  CHECK(field_of([] { think_of("\"none\""); }) == "think");
  CHECK(field_of([] { think_of("1"); }) == "think");
}

TEST_CASE("ollama keep_alive: seconds or a duration; negative is for ever") {
  CHECK(!keep_of("null"));
  CHECK(keep_of("0") == 0);
  CHECK(keep_of("1.5") == 1.5);
  CHECK(keep_of("1800") == 1800);
  CHECK(keep_of("-1") == -1);
  CHECK(keep_of("-0.5") == -1);
  CHECK(keep_of("\"5m\"") == 300);
  CHECK(keep_of("\"-1\"") == -1);
  CHECK(keep_of("\"-1h\"") == -1);
  CHECK(keep_of("\"0\"") == 0);
  for (const char* each : {"true", "\"\"", "\"5 m\"", "[]", "1e300", "4e9"}) {
    CAPTURE(each);
    CHECK(field_of([&] { keep_of(each); }) == "keep_alive");
  }
}

TEST_CASE("durations: as Go writes them, and numbers of seconds") {
  CHECK(parse_duration("1h30m") == 5400);
  CHECK(parse_duration("1.5h") == 5400);
  CHECK(parse_duration("1h2m3s") == 3723);
  CHECK(parse_duration("250ms") == doctest::Approx(0.25));
  CHECK(parse_duration("10us") == doctest::Approx(1e-5));
  CHECK(parse_duration("10\u00b5s") == doctest::Approx(1e-5));
  CHECK(parse_duration("10\u03bcs") == doctest::Approx(1e-5));
  CHECK(parse_duration("7ns") == doctest::Approx(7e-9));
  CHECK(parse_duration(".5s") == 0.5);
  CHECK(parse_duration("+2s") == 2);
  CHECK(parse_duration("-2s") == -2);
  CHECK(parse_duration("300") == 300);
  CHECK(parse_duration("-1") == -1);
  CHECK(parse_duration("1.25s") == doctest::Approx(1.25));
}

TEST_CASE("durations: what is none, or has no end") {
  for (const char* each :
       {"",    "-",   "+",     "m",      ".s",
        "5x",  "5m3", "1..5s", "1.5.5s", "--5m",
        "5m ", " 5m", "5 m",   "1e3s",   "0x10s",
        "inf", "nan", "1d",    "5M",     "999999999999999h"}) {
    CAPTURE(each);
    CHECK(!parse_duration(each));
  }
  CHECK(!parse_duration(std::string(65, '1')));
  CHECK(!parse_duration(std::string(64, '9') + "h"));
  CHECK(parse_duration(std::string(60, '0') + "1s") == 1);
}
