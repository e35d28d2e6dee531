#include "cli/bench_output.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

using namespace mlx_flash;
using namespace mlx_flash::cli;
using nlohmann::json;

namespace {

BenchRun run_of(double seconds) {
  BenchRun run;
  run.counters = {seconds, 0.25, 8, 30, 10, 4000};
  run.figures.seconds = seconds;
  run.figures.tokens_per_second = 8 / seconds;
  run.figures.hit_rate = 0.75;
  return run;
}

BenchReport sample() {
  BenchReport report;
  report.machine.cpu = "CPU \"fast\", 2 GHz";
  report.machine.simd = "AVX2";
  report.machine.cpus = 2;
  report.speeds.best = {20, 1.5};
  report.speeds.memory_gb_per_second = {20, 19};
  report.speeds.disk_gb_per_second = {1, 1.5};
  report.work.dense_bytes = 77;
  report.engine.threads = 2;
  report.engine.reader = "uring";
  report.notes = {"something was left out"};
  BenchMeasurement m;
  m.what = {BenchKind::decode, 512, 8};
  m.plan.model = "models/some";
  m.plan.slots = 24;
  m.plan.experts = 192;
  m.start_seconds = 0.5;
  m.start_bytes_read = 900;
  m.peak_bytes = 123;
  m.cold = run_of(4);
  m.warm = {run_of(2), run_of(1), run_of(3)};
  report.measurements = {m};
  return report;
}

struct Sample {
  BenchReport report = sample();
  BenchOptions options;
  BenchOutput output{
      report,
      options,
      {"0.1.0", "abc-dirty", "Release", "GNU 12"},
      "2024-07-26T08:30:00Z"};
};

std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows{{""}};
  bool quoted = false;
  for (const char c : text) {
    std::string& field = rows.back().back();
    if (c == '"') {
      quoted = !quoted; // a doubled quote: twice, and is kept below
      field += c;
    } else if (c == ',' && !quoted) {
      rows.back().emplace_back();
    } else if (c == '\n' && !quoted) {
      rows.push_back({""});
    } else {
      field += c;
    }
  }
  rows.pop_back();
  return rows;
}

} // namespace

TEST_CASE("bench output: the JSON object has every figure of every run") {
  const Sample s;
  const std::string text = bench_json(s.output);
  CHECK(text.find('\n') == text.size() - 1);
  const json object = json::parse(text);
  CHECK(object["date"] == "2024-07-26T08:30:00Z");
  CHECK(object["model"] == "models/some");
  CHECK(object["build"]["commit"] == "abc-dirty");
  CHECK(object["machine"]["cpu"] == "CPU \"fast\", 2 GHz");
  CHECK(object["machine"]["simd"] == "AVX2");
  CHECK(object["engine"]["reader"] == "uring");
  CHECK(object["speeds"]["memory_measured"] == json::parse("[20.0, 19.0]"));
  CHECK(object["speeds"]["disk_gb_per_second"] == 1.5);
  CHECK(object["work"]["dense_bytes"] == 77);
  CHECK(object["notes"] == json::parse(R"(["something was left out"])"));
  CHECK(object["start"]["seconds"]["median"] == 0.5);
  CHECK(object["start"]["runs"][0]["bytes_read"] == 900);
  REQUIRE(object["measurements"].size() == 1);
  const json& m = object["measurements"][0];
  CHECK(m["kind"] == "decode");
  CHECK(m["context"] == 512);
  CHECK(m["tokens"] == 8);
  CHECK(m["slots"] == 24);
  CHECK(m["peak_bytes"] == 123);
  CHECK(m["cold"]["seconds"] == 4);
  CHECK(m["cold"]["expert_misses"] == 10);
  CHECK(
      m["warm"]["seconds"] ==
      json::parse(R"({"median": 2.0, "min": 1.0, "max": 3.0})"));
  CHECK(m["warm_runs"].size() == 3);
  CHECK(m["warm_runs"][1]["tokens_per_second"] == 8);
  for (const BenchFigure& figure : kBenchFigures) {
    CAPTURE(figure.name);
    CHECK(m["cold"].contains(figure.name));
    CHECK(m["warm"].contains(figure.name));
  }
  CHECK(m["cold"]["memory_share"].is_null());
  CHECK(m["warm"]["memory_share"].is_null());
}

TEST_CASE("bench output: the JSON object has the flags, null where not given") {
  Sample s;
  json options = json::parse(bench_json(s.output))["options"];
  for (const char* name :
       {"memory", "slots", "ctx", "threads", "prefill", "context", "tokens"}) {
    CAPTURE(name);
    CHECK(options[name].is_null());
  }
  CHECK(options["policy"] == "efd");
  CHECK(options["runs"] == 5);
  s.options.engine.memory = "4GB";
  s.options.engine.slots = 9;
  s.options.prefill = {{1, 2}};
  s.options.contexts = std::vector<uint64_t>{};
  options = json::parse(bench_json(s.output))["options"];
  CHECK(options["memory"] == "4GB");
  CHECK(options["slots"] == 9);
  CHECK(options["prefill"] == json::parse("[1, 2]"));
  CHECK(options["context"] == json::array());
}

TEST_CASE("bench output: CSV has a row for each start-up and run") {
  const Sample s;
  const auto rows = parse_csv(bench_csv(s.output));
  REQUIRE(rows.size() == 1 + 1 + 1 + 3);
  const auto column = [&](const std::string& name) {
    const auto& names = rows[0];
    const auto at = std::find(names.begin(), names.end(), name);
    REQUIRE(at != names.end());
    return static_cast<size_t>(at - names.begin());
  };
  for (const auto& row : rows) {
    CHECK(row.size() == rows[0].size());
  }
  const auto values = [&](const std::string& name) {
    std::vector<std::string> result;
    for (size_t i = 1; i < rows.size(); ++i) {
      result.push_back(rows[i][column(name)]);
    }
    return result;
  };
  using Values = std::vector<std::string>;
  CHECK(
      values("kind") ==
      Values{"start", "decode", "decode", "decode", "decode"});
  CHECK(values("state") == Values{"cold", "cold", "warm", "warm", "warm"});
  CHECK(values("run") == Values{"0", "0", "1", "2", "3"});
  CHECK(values("seconds") == Values{"0.5", "4", "2", "1", "3"});
  CHECK(values("bytes_read") == Values{"900", "4000", "4000", "4000", "4000"});
  CHECK(values("memory_share") == Values{"", "", "", "", ""});
  CHECK(values("commit")[4] == "abc-dirty");
  CHECK(values("cpu")[4] == "\"CPU \"\"fast\"\", 2 GHz\"");
}

TEST_CASE("bench output: the table has the medians and their range") {
  const Sample s;
  const std::string table = bench_table(s.output);
  for (const char* part :
       {"models/some",
        "AVX2",
        "abc-dirty",
        "decode at 512",
        "24/192",
        "4.0 (2.7 .. 8.0)",
        "75 %",
        "note: something was left out"}) {
    CAPTURE(part);
    // Whatever the columns' width.
    std::string squeezed;
    for (const char c : table) {
      if (c != ' ' || !squeezed.ends_with(' ')) {
        squeezed += c;
      }
    }
    CHECK(squeezed.find(part) != squeezed.npos);
  }
}

TEST_CASE("bench output: the line of progress") {
  BenchProgress progress;
  progress.measurement = 1;
  progress.measurements = 6;
  progress.runs = 6;
  CHECK(bench_progress_line(progress) == "measuring memory and disk");
  progress.what = BenchCase{BenchKind::prefill, 0, 512};
  CHECK(bench_progress_line(progress) == "[2/6] prefill 512: start-up");
  progress.run = 1;
  CHECK(bench_progress_line(progress) == "[2/6] prefill 512: cold run");
  progress.run = 2;
  CHECK(bench_progress_line(progress) == "[2/6] prefill 512: warm run 1 of 5");
}
