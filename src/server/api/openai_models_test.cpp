#include "server/api/openai_models.h"

#include <doctest/doctest.h>

#include "server/api/test_openai.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
using namespace mlx_flash::server::openai_test;

namespace {

EmbeddingRequest read(
    const std::string& changes,
    const ServerLimits& limits = {}) {
  return read_embedding_request(
      changed(R"({"model": "demo", "input": "Hi"})", changes), limits);
}

std::string wrong(const std::string& changes, const ServerLimits& limits = {}) {
  return wrong_field([&] { read(changes, limits); });
}

} // namespace

TEST_CASE("openai models: a list of those that are served") {
  std::vector<ServedModel> models(2);
  models[0].name = "demo";
  models[0].aliases = {"other"};
  models[1].name = "skew";
  const auto object = [](const std::string& name) {
    return TestJson{
        {"id", name},
        {"object", "model"},
        {"created", 5},
        {"owned_by", "mlx-flash"},
        {"type", "model"},
        {"display_name", name},
        {"created_at", "1970-01-01T00:00:05.000000000Z"},
        {"lifecycle", "active"}};
  };
  CHECK(
      model_list(models, 5) ==
      TestJson{
          {"object", "list"},
          {"data", TestJson::array({object("demo"), object("skew")})},
          {"has_more", false},
          {"first_id", "demo"},
          {"last_id", "skew"}});
}

TEST_CASE("openai embeddings: each form of input") {
  const auto job = [](const std::string& changes) { return read(changes).job; };
  CHECK(job("{}").model == "demo");
  CHECK(!read("{}").base64);
  CHECK(!job("{}").truncate);
  CHECK(!job("{}").dimensions);
  CHECK(std::get<std::string>(job("{}").inputs.at(0)) == "Hi");
  CHECK(job(R"({"input": ["a", "b"]})").inputs.size() == 2);
  CHECK(
      std::get<std::vector<TokenId>>(job(R"({"input": [1, 2]})").inputs[0]) ==
      std::vector<TokenId>{1, 2});
  CHECK(job(R"({"input": [[1], [2], [3]]})").inputs.size() == 3);
  CHECK(read(R"({"encoding_format": "base64"})").base64);
  CHECK(!read(R"({"encoding_format": "float", "user": "u"})").base64);
  CHECK(job(R"({"dimensions": 256})").dimensions == 256u);
}

TEST_CASE("openai embeddings: a list with what was read") {
  EmbeddingsEnd end;
  end.model = "\"demo\"";
  end.prompt_tokens = 7;
  CHECK(
      TestJson::parse(embedding_list({"[1,2]", "\"AA==\""}, end)) ==
      TestJson::parse(R"({"object": "list", "data": [
          {"object": "embedding", "index": 0, "embedding": [1, 2]},
          {"object": "embedding", "index": 1, "embedding": "AA=="}],
          "model": "\"demo\"",
          "usage": {"prompt_tokens": 7, "total_tokens": 7}})"));
}

TEST_CASE("openai embeddings: what is wrong is named") {
  CHECK(wrong(R"({"input": null})") == "input");
  CHECK(wrong(R"({"input": []})") == "input");
  CHECK(wrong(R"({"input": [1, "a"]})") == "input");
  CHECK(wrong(R"({"input": [["a"]]})") == "input[0]");
  CHECK(wrong(R"({"encoding_format": "int8"})") == "encoding_format");
  CHECK(wrong(R"({"dimensions": 0})") == "dimensions");
  CHECK(wrong(R"({"more": 1})") == "more");
  ServerLimits limits;
  limits.embedding_inputs = 2;
  CHECK(wrong(R"({"input": ["a", "b"]})", limits) == "");
  CHECK(wrong(R"({"input": ["a", "b", "c"]})", limits) == "input");
}
