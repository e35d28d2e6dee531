#include "generate/generation_defaults.h"

#include <doctest/doctest.h>

#include <string>

#include "mlx_flash/error.h"

using namespace mlx_flash;

namespace {

// The message of the Error(bad_model) that parsing throws; empty without one.
std::string refusal(std::string_view text, std::string_view config = "") {
  try {
    parse_generation_defaults(text, config);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::bad_model);
    return e.what();
  }
  return "";
}

std::string field_refusal(const std::string& field, const std::string& value) {
  return refusal("{\"do_sample\": true, \"" + field + "\": " + value + "}");
}

} // namespace

TEST_CASE("generation defaults: every field of a sampling model is taken") {
  const auto defaults = parse_generation_defaults(
      R"({"bos_token_id": 7, "eos_token_id": [9, 3, 9], "do_sample": true,
          "temperature": 0.75, "top_k": 40, "top_p": 0.5, "min_p": 0.25,
          "repetition_penalty": 1.5, "max_new_tokens": 400})",
      R"({"eos_token_id": 5})");
  CHECK(defaults.eos_tokens == std::vector<TokenId>{3, 9});
  CHECK(defaults.sampling.temperature == 0.75f);
  CHECK(defaults.sampling.top_k == 40);
  CHECK(defaults.sampling.top_p == 0.5f);
  CHECK(defaults.sampling.min_p == 0.25f);
  CHECK(defaults.sampling.repetition_penalty == 1.5f);
  CHECK(defaults.max_new_tokens == 400);
}

TEST_CASE("generation defaults: without do_sample a model is greedy") {
  for (const char* sample : {"", "\"do_sample\": false,"}) {
    const auto defaults = parse_generation_defaults(
        std::string("{") + sample +
            R"("temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.1,
               "repetition_penalty": 1.1})",
        "");
    CHECK(defaults.sampling.temperature == 0);
    CHECK(defaults.sampling.top_k == 0);
    CHECK(defaults.sampling.top_p == 1);
    CHECK(defaults.sampling.min_p == 0);
    CHECK(defaults.sampling.repetition_penalty == 1);
  }
}

TEST_CASE("generation defaults: sampling without further fields is plain") {
  const auto defaults =
      parse_generation_defaults(R"({"do_sample": true, "top_k": null})", "");
  CHECK(defaults.sampling.temperature == 1);
  CHECK(defaults.sampling.top_k == 0);
  CHECK(defaults.sampling.top_p == 1);
  CHECK(defaults.max_new_tokens == 0);
}

TEST_CASE("generation defaults: end tokens fall back to config.json") {
  const char* config = R"({"eos_token_id": [4, 1]})";
  const std::vector<TokenId> of_config = {1, 4};
  CHECK(parse_generation_defaults("", config).eos_tokens == of_config);
  CHECK(parse_generation_defaults("{}", config).eos_tokens == of_config);
  CHECK(
      parse_generation_defaults(R"({"eos_token_id": null})", config)
          .eos_tokens == of_config);
  CHECK(
      parse_generation_defaults(R"({"eos_token_id": 0})", config).eos_tokens ==
      std::vector<TokenId>{0});
  CHECK(parse_generation_defaults("", "").eos_tokens.empty());
  CHECK(parse_generation_defaults("", R"({"eos_token_id": null})")
            .eos_tokens.empty());
}

TEST_CASE("generation defaults: what Hugging Face clamps is clamped") {
  const auto of = [](const char* field) {
    return parse_generation_defaults(
               std::string(R"({"do_sample": true, )") + field + "}", "")
        .sampling;
  };
  CHECK(of(R"("top_p": 1.5)").top_p == 1);
  CHECK(of(R"("top_k": 123456789012)").top_k == 2147483647);
  CHECK(of(R"("temperature": 2)").temperature == 2);
}

TEST_CASE("generation defaults: a hostile value is refused by name") {
  const char* fields[] = {
      "temperature", "top_k", "top_p", "min_p", "repetition_penalty"};
  for (const std::string field : fields) {
    for (const char* value : {"-1", "-0.5", "\"0.7\"", "[]", "{}", "true"}) {
      CAPTURE(field);
      CAPTURE(value);
      CHECK(field_refusal(field, value).find(field) != std::string::npos);
    }
  }
  CHECK(field_refusal("temperature", "1e60") != "");
  CHECK(field_refusal("top_k", "1.5") != "");
  CHECK(field_refusal("min_p", "1.01") != "");
  CHECK(field_refusal("repetition_penalty", "0") != "");
  CHECK(field_refusal("max_new_tokens", "0") != "");
  CHECK(field_refusal("max_new_tokens", "-5") != "");
  CHECK(field_refusal("max_new_tokens", "1e3") != "");
  CHECK(refusal(R"({"do_sample": 1})").find("do_sample") != std::string::npos);
  for (const char* eos : {"-1", "4294967296", "1.0", "\"</s>\"", "[1, null]"}) {
    CAPTURE(eos);
    const std::string text = std::string(R"({"eos_token_id": )") + eos + "}";
    CHECK(refusal(text).starts_with("[generation_config.json] eos_token_id"));
    CHECK(refusal("", text).starts_with("[config.json] eos_token_id"));
  }
}

TEST_CASE("generation defaults: text that is no JSON object is refused") {
  for (const char* text :
       {"{", "[]", "3", "nul", "{\"a\": NaN}", "{\"top_p\": 1e999}", "\xff"}) {
    CAPTURE(text);
    CHECK(refusal(text).starts_with("[generation_config.json]"));
    CHECK(refusal("", text).starts_with("[config.json]"));
  }
}

TEST_CASE("generation defaults: size and depth are bounded, messages too") {
  CHECK(refusal(std::string((1 << 20) + 1, ' ')) != "");
  CHECK(refusal(std::string(1 << 20, '[')).size() < 400);
  const std::string long_string(1 << 19, 'x');
  CHECK(field_refusal("temperature", "\"" + long_string + "\"").size() < 400);
  CHECK(refusal("{\"" + long_string).size() < 400);
}
