#include "server/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <thread>

using namespace mlx_flash;
using server::AnswerFigures;
using server::Metrics;

namespace {

// Values by what is before them in their lines: the name and its labels.
std::map<std::string, double> samples(const std::string& text) {
  std::map<std::string, double> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind('#', 0) != 0) {
      const size_t space = line.rfind(' ');
      CAPTURE(line);
      REQUIRE(space != std::string::npos);
      CHECK(found.emplace(line.substr(0, space), std::stod(line.substr(space)))
                .second); // no series twice
    }
  }
  return found;
}

Stats some_stats() {
  Stats stats;
  stats.steps = 10;
  stats.prompt_steps = 4;
  stats.mixed_steps = 1;
  stats.prefill_tokens = 100;
  stats.prefill_seconds = 2;
  stats.decode_tokens = 7;
  stats.decode_seconds = 3.5;
  stats.expert_hits = 30;
  stats.expert_misses = 10;
  stats.expert_evictions = 5;
  stats.bytes_read_demand = 1000;
  stats.bytes_read_prefetch = 200;
  stats.bytes_read_load = 30;
  stats.stall_seconds = 0.75;
  stats.stall_per_token.observe(0.5e-6);
  stats.read_latency.observe(100e-6);
  stats.preemptions = 2;
  stats.kv_pages = 100;
  stats.kv_pages_used = 60;
  stats.kv_pages_kept = 20;
  stats.longest_mixed_step_seconds = 0.5;
  stats.slots = 12;
  stats.slots_used = 11;
  stats.memory_pressure = 0.25;
  stats.restored_tokens = 64;
  stats.prompt_cache_read = 1;
  stats.prompt_cache_written = 2;
  stats.prompt_cache_evicted = 3;
  stats.prompt_cache_failed = 4;
  stats.prompt_cache_bytes = 12345;
  stats.budget_bytes = 4000;
  stats.planned_bytes = 3900;
  stats.peak_bytes = 3800;
  stats.load_seconds = 1.5;
  stats.device = "cpu";
  stats.precision = "int8";
  stats.policy = "efd";
  stats.reader = "uring";
  return stats;
}

Plan some_plan() {
  Plan plan;
  plan.model_type = "qwen3_moe";
  plan.accounts = {{"dense_weights", 1500}, {"expert_slots", 2400}};
  return plan;
}

const Metrics::Gauges kLoaded{3, 2, 1, true, "tales"};

// All that there is, each metric with a sample.
std::string whole_text() {
  Metrics metrics("1.2.3");
  metrics.count_request("/health", 200);
  metrics.count_answer({});
  const Stats stats = some_stats();
  const Plan plan = some_plan();
  return metrics.prometheus_text(kLoaded, &stats, &plan);
}

// Of a sample's line, such as "`route`, `status`"; `le` is every histogram's.
std::string labels_of(const std::string& line) {
  static const std::regex label("(\\w+)=\"");
  std::string labels;
  const std::string braces = line.substr(0, line.rfind(' '));
  for (std::sregex_iterator i(braces.begin(), braces.end(), label), end;
       i != end;
       ++i) {
    if (i->str(1) != "le") {
      labels += (labels.empty() ? "`" : ", `") + i->str(1) + "`";
    }
  }
  return labels.empty() ? " " : " " + labels + " ";
}

// What a table of metrics says of a text: "| `name` | type | labels | help |".
std::vector<std::string> described(const std::string& text) {
  std::vector<std::string> rows;
  std::istringstream lines(text);
  std::string help;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    std::string rest;
    words >> hash >> kind >> name >> std::ws;
    std::getline(words, rest);
    if (kind == "HELP") {
      help = rest;
    } else if (kind == "TYPE") {
      std::string sample;
      std::getline(lines, sample);
      rows.push_back(
          "| `" + name + "` | " + rest + " |" + labels_of(sample) + "| " +
          help + " |");
    }
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

} // namespace

TEST_CASE("metrics: requests are counted by route and status") {
  Metrics metrics;
  metrics.count_request("/v1/models/{model...}", 200);
  metrics.count_request("/v1/models/{model...}", 200);
  metrics.count_request("/v1/models/{model...}", 404);
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  const std::string route =
      "mlx_flash_requests_total{route=\"/v1/models/"
      "{model...}\",status=\"";
  CHECK(found.at(route + "200\"}") == 2);
  CHECK(found.at(route + "404\"}") == 1);
}

TEST_CASE("metrics: no number of routes makes the text grow without end") {
  Metrics metrics;
  for (int i = 0; i < 10000; ++i) {
    metrics.count_request("/" + std::to_string(i), 404);
  }
  metrics.count_request("/1", 404);
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  CHECK(found.size() < 700);
  CHECK(found.at("mlx_flash_requests_total{route=\"/1\",status=\"404\"}") == 2);
  CHECK(
      found.at("mlx_flash_requests_total{route=\"other\",status=\"404\"}") ==
      10000 - 512);
}

TEST_CASE("metrics: an answer is counted in tokens and in time") {
  Metrics metrics;
  AnswerFigures answer;
  answer.prompt_tokens = 110;
  answer.cached_tokens = 10;
  answer.completion_tokens = 5;
  answer.queue_seconds = 0.25;
  answer.prompt_seconds = 2;
  answer.decode_seconds = 3;
  answer.total_seconds = 6;
  metrics.count_answer(answer);
  metrics.count_cancelled();
  metrics.count_failed();
  metrics.count_failed();
  metrics.observe_token_gap(0.002);
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  CHECK(found.at("mlx_flash_tokens_prompt_total") == 110);
  CHECK(found.at("mlx_flash_tokens_cached_total") == 10);
  CHECK(found.at("mlx_flash_tokens_generated_total") == 5);
  CHECK(found.at("mlx_flash_answers_total{end=\"finished\"}") == 1);
  CHECK(found.at("mlx_flash_answers_total{end=\"cancelled\"}") == 1);
  CHECK(found.at("mlx_flash_answers_total{end=\"failed\"}") == 2);
  CHECK(found.at("mlx_flash_time_to_first_token_seconds_sum") == 3);
  CHECK(found.at("mlx_flash_time_to_first_token_seconds_count") == 1);
  CHECK(found.at("mlx_flash_queue_seconds_sum") == 0.25);
  CHECK(found.at("mlx_flash_prefill_tokens_per_second_sum") == 50);
  CHECK(found.at("mlx_flash_answer_seconds_sum") == 6);
  CHECK(
      found.at("mlx_flash_time_between_tokens_seconds_bucket{le=\"0.001\"}") ==
      0);
  CHECK(
      found.at("mlx_flash_time_between_tokens_seconds_bucket{le=\"0.0025\"}") ==
      1);
  CHECK(metrics.totals().cached_tokens == 10);
  CHECK(metrics.totals().cancelled == 1);
  CHECK(metrics.totals().failed == 2);
}

TEST_CASE("metrics: without a token there is no time to the first one") {
  Metrics metrics;
  AnswerFigures answer; // all of its prompt was cached, and it ended at once
  answer.prompt_tokens = answer.cached_tokens = 10;
  answer.prompt_seconds = 1;
  answer.total_seconds = 1;
  metrics.count_answer(answer);
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  CHECK(found.at("mlx_flash_time_to_first_token_seconds_count") == 0);
  CHECK(found.at("mlx_flash_prefill_tokens_per_second_count") == 0);
  CHECK(found.at("mlx_flash_answer_seconds_count") == 1);
}

TEST_CASE("metrics: an engine's figures are those of the model") {
  const Metrics metrics("1.2.3");
  const Stats stats = some_stats();
  const Plan plan = some_plan();
  const auto found = samples(metrics.prometheus_text(kLoaded, &stats, &plan));
  const std::map<std::string, double> expected = {
      {"build_info{version=\"1.2.3\"}", 1},
      {"connections", 3},
      {"sessions", 2},
      {"queue_depth", 1},
      {"model_loaded", 1},
      {"model_loads_total", 1},
      {"model_load_seconds", 1.5},
      {"model_info{model=\"tales\",type=\"qwen3_moe\",device=\"cpu\","
       "precision=\"int8\",policy=\"efd\",reader=\"uring\"}",
       1},
      {"memory_account_bytes{account=\"dense_weights\"}", 1500},
      {"memory_account_bytes{account=\"expert_slots\"}", 2400},
      {"memory_budget_bytes", 4000},
      {"memory_planned_bytes", 3900},
      {"memory_peak_bytes", 3800},
      {"memory_pressure", 0.25},
      {"preemptions_total", 2},
      {"kv_pages{state=\"active\"}", 40},
      {"kv_pages{state=\"kept\"}", 20},
      {"kv_pages{state=\"free\"}", 40},
      {"longest_mixed_step_seconds", 0.5},
      {"cache_hits_total", 30},
      {"cache_misses_total", 10},
      {"cache_evictions_total", 5},
      {"cache_slots", 12},
      {"cache_entries", 11},
      {"prompt_cache_restored_tokens_total", 64},
      {"prompt_cache_pages_total{event=\"read\"}", 1},
      {"prompt_cache_pages_total{event=\"written\"}", 2},
      {"prompt_cache_pages_total{event=\"evicted\"}", 3},
      {"prompt_cache_pages_total{event=\"failed\"}", 4},
      {"prompt_cache_bytes", 12345},
      {"cache_hit_ratio", 0.75},
      {"read_bytes_total{cause=\"demand\"}", 1000},
      {"read_bytes_total{cause=\"prefetch\"}", 200},
      {"read_bytes_total{cause=\"load\"}", 30},
      {"stall_seconds_total", 0.75},
      {"steps_total{rows=\"prompt\"}", 3},
      {"steps_total{rows=\"mixed\"}", 1},
      {"steps_total{rows=\"decode\"}", 6},
      {"prefill_tokens_total", 100},
      {"prefill_seconds_total", 2},
      {"decode_tokens_total", 7},
      {"decode_seconds_total", 3.5},
      {"stall_per_token_seconds_bucket{le=\"1e-06\"}", 1},
      {"read_latency_seconds_bucket{le=\"6.4e-05\"}", 0},
      {"read_latency_seconds_bucket{le=\"0.000128\"}", 1},
      {"read_latency_seconds_bucket{le=\"+Inf\"}", 1},
  };
  for (const auto& [name, value] : expected) {
    CAPTURE(name);
    REQUIRE(found.count("mlx_flash_" + name) == 1);
    CHECK(found.at("mlx_flash_" + name) == doctest::Approx(value));
  }
}

TEST_CASE("metrics: without a model there are no figures of one") {
  Metrics metrics;
  metrics.retire(some_stats());
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  CHECK(found.at("mlx_flash_model_loaded") == 0);
  CHECK(found.count("mlx_flash_memory_budget_bytes") == 0);
  CHECK(found.count("mlx_flash_cache_hit_ratio") == 0);
  CHECK(found.count("mlx_flash_cache_slots") == 0);
  CHECK(found.at("mlx_flash_cache_hits_total") == 30);
  CHECK(found.at("mlx_flash_model_loads_total") == 1);
}

TEST_CASE("metrics: counters go on when the model is loaded again") {
  Metrics metrics;
  Stats first = some_stats();
  metrics.prometheus_text(kLoaded, &first, nullptr);
  first.expert_hits += 1;
  metrics.retire(first);
  const Stats second = some_stats();
  const auto found =
      samples(metrics.prometheus_text(kLoaded, &second, nullptr));
  CHECK(found.at("mlx_flash_cache_hits_total") == 61);
  CHECK(found.at("mlx_flash_cache_hit_ratio") == 0.75); // of the second alone
  CHECK(found.at("mlx_flash_read_latency_seconds_count") == 2);
  CHECK(found.at("mlx_flash_model_loads_total") == 2);
}

TEST_CASE("metrics: counting and asking may come from many threads") {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        metrics.observe_token_gap(0.01);
        metrics.count_request("/status", 200);
        if (i % 100 == 0) {
          const Stats stats = some_stats();
          metrics.prometheus_text(kLoaded, &stats, nullptr);
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  const auto found = samples(metrics.prometheus_text({}, nullptr, nullptr));
  CHECK(found.at("mlx_flash_time_between_tokens_seconds_count") == 2000);
  CHECK(
      found.at("mlx_flash_requests_total{route=\"/status\",status=\"200\"}") ==
      2000);
}

TEST_CASE("metrics: docs/metrics.md lists those that there are, and no other") {
  std::ifstream file(MLX_FLASH_SOURCE_DIR "/docs/metrics.md");
  REQUIRE(file);
  std::vector<std::string> listed;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `mlx_flash_", 0) == 0) {
      listed.push_back(line);
    }
  }
  std::sort(listed.begin(), listed.end());
  const std::vector<std::string> expected = described(whole_text());
  REQUIRE(expected.size() > 30);
  CHECK(listed.size() == expected.size());
  for (size_t i = 0; i < std::min(listed.size(), expected.size()); ++i) {
    CHECK(listed[i] == expected[i]);
  }
}
