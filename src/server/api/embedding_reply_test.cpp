#include "server/api/embedding_reply.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <limits>

#include "server/api/test_exchange.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

TEST_CASE(
    "embedding reply: numbers are short, and the same when they are read") {
  const std::vector<float> values{
      0,
      -0.1f,
      1,
      3.0f / 7,
      -std::numeric_limits<float>::max(),
      std::numeric_limits<float>::denorm_min()};
  const std::string text = number_array(values);
  CHECK(text.starts_with("[0,-0.1,1,0.42857"));
  CHECK(Json::parse(text).get<std::vector<float>>() == values);
  CHECK(number_array({}) == "[]");
}

TEST_CASE("embedding reply: base64 is that of the floats' bytes") {
  // 1.0f is 00 00 80 3f, -2.5f 00 00 20 c0.
  CHECK(base64_string(std::vector<float>{1}) == "\"AACAPw==\"");
  CHECK(base64_string(std::vector<float>{1, -2.5f}) == "\"AACAPwAAIMA=\"");
  CHECK(
      base64_string(std::vector<float>{1, -2.5f, 1}) == "\"AACAPwAAIMAAAIA/\"");
}

TEST_CASE("embedding reply: all are sent at the end, in the order of texts") {
  const auto exchange = std::make_shared<TestExchange>();
  EmbeddingReply reply(
      exchange,
      Dialect::openai,
      EmbeddingReply::Form::numbers,
      [](const std::vector<std::string>& all, const EmbeddingsEnd& end) {
        return end.model + all.at(0) + all.at(1);
      });
  reply.on_embedding(1, std::vector<float>{2});
  reply.on_embedding(0, std::vector<float>{1});
  CHECK(!exchange->begun);
  reply.on_end({"m", 3, {}});
  CHECK(exchange->written == "m[1][2]");
  CHECK(exchange->head.any_size); // embeddings have a budget of their own
  CHECK(exchange->protocol_errors == 0);
}

TEST_CASE("embedding reply: an error has the dialect's form") {
  const auto exchange = std::make_shared<TestExchange>();
  EmbeddingReply reply(
      exchange, Dialect::ollama, EmbeddingReply::Form::numbers, {});
  reply.on_error(invalid_field("input", "input is wrong"));
  CHECK(exchange->head.status == 400);
  CHECK(Json::parse(exchange->written) == Json{{"error", "input is wrong"}});
}
