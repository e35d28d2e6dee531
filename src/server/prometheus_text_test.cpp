#include "server/prometheus_text.h"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace mlx_flash::server;
using Type = PrometheusText::Type;

TEST_CASE("prometheus text: a metric says what it is, and then its samples") {
  PrometheusText text;
  text.metric("a_total", Type::counter, "What a counts.");
  text.sample(uint64_t{18446744073709551615u});
  text.metric("b", Type::gauge, "b.");
  text.sample(0.25, {{"kind", "x"}, {"of", "y"}});
  CHECK(
      text.text() ==
      "# HELP a_total What a counts.\n"
      "# TYPE a_total counter\n"
      "a_total 18446744073709551615\n"
      "# HELP b b.\n"
      "# TYPE b gauge\n"
      "b{kind=\"x\",of=\"y\"} 0.25\n");
}

TEST_CASE("prometheus text: no text can leave its place") {
  PrometheusText text;
  text.metric("a", Type::gauge, "one\ntwo \\ \"three\"");
  text.sample(1.0, {{"l", "x\"} 9\na 7 \\"}});
  CHECK(
      text.text() ==
      "# HELP a one\\ntwo \\\\ \"three\"\n"
      "# TYPE a gauge\n"
      "a{l=\"x\\\"} 9\\na 7 \\\\\"} 1\n");
}

TEST_CASE("prometheus text: numbers that are none have names") {
  const double infinity = std::numeric_limits<double>::infinity();
  PrometheusText text;
  text.metric("a", Type::gauge, "a");
  text.sample(infinity);
  text.sample(-infinity);
  text.sample(std::numeric_limits<double>::quiet_NaN());
  text.sample(1e-7);
  const std::string& all = text.text();
  CHECK(
      all.substr(all.find("gauge\n") + 6) ==
      "a +Inf\na -Inf\na NaN\na 1e-07\n");
}

TEST_CASE("prometheus text: buckets of a histogram count all below them") {
  PrometheusText text;
  text.metric("h", Type::histogram, "h.");
  text.histogram(
      std::vector<double>{0.5, 1}, std::vector<uint64_t>{3, 0, 2}, 7.5);
  CHECK(
      text.text() ==
      "# HELP h h.\n"
      "# TYPE h histogram\n"
      "h_bucket{le=\"0.5\"} 3\n"
      "h_bucket{le=\"1\"} 3\n"
      "h_bucket{le=\"+Inf\"} 5\n"
      "h_sum 7.5\n"
      "h_count 5\n");
}
