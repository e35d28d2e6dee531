#include "models/embedding_config.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

using namespace mlx_flash;
using Json = nlohmann::json;

namespace {

Json module(const std::string& type, const std::string& path) {
  return {{"idx", 0}, {"name", "0"}, {"path", path}, {"type", type}};
}

const std::string kOld = "sentence_transformers.models.";
const Json kTransformer = module(kOld + "Transformer", "");
const Json kPooling = module(kOld + "Pooling", "1_Pooling");
const Json kNormalize = module(kOld + "Normalize", "2_Normalize");

EmbeddingModules modules(const Json& list) {
  return parse_embedding_modules(list.dump());
}

template <typename Call>
std::string complaint(const Call& call, ErrorCode code) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("accepted");
  return {};
}

std::string wrong_modules(const Json& list, ErrorCode code) {
  return complaint([&] { modules(list); }, code);
}

bool names(const std::string& message, const std::string& what) {
  INFO(message);
  return message.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("embedding config: a pooling, and maybe a normalisation") {
  const auto plain = modules({kTransformer, kPooling});
  CHECK(plain.pooling_folder == "1_Pooling");
  CHECK(!plain.normalized);
  const auto normalized = modules({kTransformer, kPooling, kNormalize});
  CHECK(normalized.normalized);
  CHECK(normalized.normalize_folder == "2_Normalize");
}

TEST_CASE("embedding config: classes are known wherever the library has them") {
  const std::string of_new = "sentence_transformers.";
  const auto read = modules(
      {module(of_new + "base.modules.transformer.Transformer", ""),
       module(
           of_new + "sentence_transformer.modules.pooling.Pooling",
           "1_Pooling"),
       module(of_new + "base.modules.normalize.Normalize", "2_Normalize")});
  CHECK(read.pooling_folder == "1_Pooling");
  CHECK(read.normalized);
}

TEST_CASE("embedding config: modules of other kinds are refused by name") {
  const auto dense = module(kOld + "Dense", "2_Dense");
  for (const Json& list :
       {Json{kTransformer, kPooling, dense},
        Json{kTransformer, kPooling, dense, kNormalize},
        Json{kTransformer, kPooling, kNormalize, dense},
        Json{kTransformer, dense}}) {
    const std::string message = wrong_modules(list, ErrorCode::unsupported);
    const bool named = message.find("Dense") != std::string::npos ||
        message.find("Normalize") != std::string::npos;
    CHECK_MESSAGE(named, message);
  }
  CHECK(names(
      wrong_modules(
          {module("custom_st.Transformer", ""), kPooling},
          ErrorCode::unsupported),
      "custom_st"));
  CHECK(names(
      wrong_modules(
          {module(kOld + "Transformer", "0_Transformer"), kPooling},
          ErrorCode::unsupported),
      "0_Transformer"));
  CHECK(names(
      wrong_modules(Json{kTransformer}, ErrorCode::unsupported), "pooling"));
  CHECK(names(wrong_modules(Json::array(), ErrorCode::unsupported), "pooling"));
}

TEST_CASE("embedding config: no path leaves the model's folder") {
  for (const char* path :
       {"",
        ".",
        "..",
        "../1_Pooling",
        "/etc",
        "a/b",
        "a\\b",
        ".hidden",
        "1 Pooling",
        "\xc3\xa4"}) {
    CAPTURE(path);
    const auto pooling = module(kOld + "Pooling", path);
    wrong_modules({kTransformer, pooling}, ErrorCode::bad_model);
    const auto normalize = module(kOld + "Normalize", path);
    wrong_modules({kTransformer, kPooling, normalize}, ErrorCode::bad_model);
  }
  const auto longest = module(kOld + "Pooling", std::string(1 << 20, 'a'));
  CHECK(
      wrong_modules({kTransformer, longest}, ErrorCode::bad_model).size() <
      1000);
}

TEST_CASE("embedding config: what is no list of modules is malformed") {
  for (const char* text :
       {"", "{", "{}", "3", "[3]", "[[]]", "[{}]", R"([{"type": 3}])"}) {
    CAPTURE(text);
    complaint([&] { parse_embedding_modules(text); }, ErrorCode::bad_model);
  }
}

TEST_CASE("embedding config: the pooling's mode in both forms") {
  const auto pooling = [](const Json& config) {
    return parse_pooling(config.dump(), 256);
  };
  // As in Qwen3-Embedding's 1_Pooling.
  CHECK(
      pooling(
          {{"word_embedding_dimension", 256},
           {"pooling_mode_cls_token", false},
           {"pooling_mode_mean_tokens", false},
           {"pooling_mode_max_tokens", false},
           {"pooling_mode_mean_sqrt_len_tokens", false},
           {"pooling_mode_weightedmean_tokens", false},
           {"pooling_mode_lasttoken", true},
           {"include_prompt", true}}) == Pooling::last);
  CHECK(pooling({{"pooling_mode_mean_tokens", true}}) == Pooling::mean);
  CHECK(pooling({{"pooling_mode_cls_token", true}}) == Pooling::first);
  CHECK(
      pooling({{"embedding_dimension", 256}, {"pooling_mode", "lasttoken"}}) ==
      Pooling::last);
  CHECK(pooling({{"pooling_mode", "mean"}}) == Pooling::mean);
  CHECK(pooling({{"pooling_mode", "cls"}}) == Pooling::first);
  CHECK(pooling(Json::object()) == Pooling::mean); // the library's default
}

TEST_CASE("embedding config: other poolings are refused by name") {
  const auto refused = [](const Json& config, ErrorCode code) {
    return complaint([&] { parse_pooling(config.dump(), 256); }, code);
  };
  CHECK(names(
      refused({{"pooling_mode", "max"}}, ErrorCode::unsupported), "'max'"));
  CHECK(names(
      refused(
          {{"pooling_mode_weightedmean_tokens", true}}, ErrorCode::unsupported),
      "'weightedmean'"));
  // Joined one behind the other.
  CHECK(names(
      refused(
          {{"pooling_mode_cls_token", true},
           {"pooling_mode_mean_tokens", true}},
          ErrorCode::unsupported),
      "'cls+mean'"));
  CHECK(names(
      refused({{"pooling_mode", {"cls", "mean"}}}, ErrorCode::bad_model),
      "pooling_mode"));
  CHECK(names(
      refused({{"pooling_mode_lasttoken", 1}}, ErrorCode::bad_model),
      "pooling_mode_lasttoken"));
  CHECK(names(
      refused({{"word_embedding_dimension", 255}}, ErrorCode::bad_model),
      "255"));
  CHECK(names(
      refused({{"embedding_dimension", "256"}}, ErrorCode::bad_model),
      "embedding_dimension"));
  complaint([] { parse_pooling("[]", 256); }, ErrorCode::bad_model);
}

TEST_CASE("embedding config: a normalisation of something else is refused") {
  CHECK_NOTHROW(check_normalization("{}"));
  CHECK_NOTHROW(
      check_normalization(R"({"module_input_name": "sentence_embedding"})"));
  CHECK(names(
      complaint(
          [] {
            check_normalization(R"({"module_input_name": "token_embeddings"})");
          },
          ErrorCode::unsupported),
      "token_embeddings"));
}
