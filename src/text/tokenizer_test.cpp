// Ids and texts recorded by others (tests/data/tokenizers/README.md). All must
// match; what does not is in a table with its reason.
#include "text/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"
#include "text/test_tokenizers.h"

namespace mlx_flash {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

const std::string kVectors = MLX_FLASH_TEST_DATA "/tokenizers/vectors/";

std::vector<std::string> split(
    const std::string& text,
    const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) {
      return parts;
    }
    begin = end + separator.size();
  }
}

std::vector<TokenId> parse_ids(const std::string& line) {
  std::istringstream stream(line);
  std::vector<TokenId> ids;
  for (TokenId id; stream >> id;) {
    ids.push_back(id);
  }
  return ids;
}

// llama.cpp's vectors: texts in one file, a line of ids for each in another.
void check_ggml_vectors(
    const std::string& vectors,
    const Tokenizer& tokenizer) {
  const std::string base = kVectors + "ggml-vocab-" + vectors + ".gguf";
  const auto texts = split(read_file(base + ".inp"), "\n__ggml_vocab_test__\n");
  const auto lines = split(read_file(base + ".out"), "\n");
  REQUIRE(texts.size() > 40);
  REQUIRE(lines.size() >= texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i);
    CAPTURE(texts[i]);
    const auto ids = tokenizer.encode(texts[i], false);
    CHECK(ids == parse_ids(lines[i]));
  }
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(std::string(error.what()).starts_with("["));
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

} // namespace

TEST_CASE("tokenizer: llama.cpp's vectors for qwen2 (the qwen3 vocabulary)") {
  check_ggml_vectors("qwen2", test_tokenizer("qwen3"));
}

TEST_CASE("tokenizer: llama.cpp's vectors for gpt-2") {
  check_ggml_vectors("gpt-2", test_tokenizer("gpt2"));
}

TEST_CASE("tokenizer: llama.cpp's vectors for mpt (the gpt-neox vocabulary)") {
  check_ggml_vectors("mpt", test_tokenizer("gpt-neox-olmo"));
}

TEST_CASE("tokenizer: pinned ids of the vocabularies that are here") {
  const std::map<std::string, std::string> vocabularies = {
      {"deepseek_v3", "deepseek-v3"},
      {"o200k_base", "gpt-oss"},
      {"cl100k_base", "dolma2"},
  };
  std::map<std::string, int> checked;
  std::set<std::string> without_vocabulary;
  for (const json& pin : json::parse(read_file(kVectors + "pinned-ids.json"))) {
    const auto encoding = pin["encoding"].get<std::string>();
    const auto vocabulary = vocabularies.find(encoding);
    if (vocabulary == vocabularies.end()) {
      without_vocabulary.insert(encoding);
      continue;
    }
    CAPTURE(pin.dump());
    const auto text = pin["text"].get<std::string>();
    const auto ids = pin["ids"].get<std::vector<TokenId>>();
    const Tokenizer& tokenizer = test_tokenizer(vocabulary->second);
    CHECK(tokenizer.encode(text, false) == ids);
    CHECK(tokenizer.decode(ids, false) == text);
    ++checked[encoding];
  }
  CHECK(checked["deepseek_v3"] == 6);
  CHECK(checked["o200k_base"] == 5);
  CHECK(checked["cl100k_base"] == 5);
  // Llama 3's vocabulary may not be passed on under our licence.
  CHECK(without_vocabulary == std::set<std::string>{"llama3"});
}

TEST_CASE("tokenizer: harmony conversations keep their text and their marks") {
  const Tokenizer& tokenizer = test_tokenizer("gpt-oss");
  const std::string marks[] = {
      "<|start|>",
      "<|message|>",
      "<|end|>",
      "<|channel|>",
      "<|call|>",
      "<|return|>",
      "<|constrain|>"};
  int files = 0;
  size_t found_marks = 0;
  for (const auto& entry : fs::directory_iterator(kVectors + "harmony")) {
    CAPTURE(entry.path().string());
    const std::string text = read_file(entry.path());
    const auto ids = tokenizer.encode(text, false);
    CHECK(tokenizer.decode(ids, false) == text);
    // A mark is one id wherever it is written, and nowhere else.
    for (const std::string& mark : marks) {
      CAPTURE(mark);
      const auto id = tokenizer.find(mark);
      REQUIRE(id);
      const size_t written = split(text, mark).size() - 1;
      CHECK(size_t(std::count(ids.begin(), ids.end(), *id)) == written);
      found_marks += written;
    }
    ++files;
  }
  CHECK(files == 23);
  CHECK(found_marks > 100);
}

TEST_CASE("tokenizer: the demo model's vocabulary") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  const std::string text = "Once upon a time, there was a café.\n  “Hi!” 😀";
  const auto ids = tokenizer.encode(text, false);
  CHECK(tokenizer.decode(ids, false) == text);
  for (TokenId id : ids) {
    CHECK(id < tokenizer.vocab_size());
    const std::string piece = tokenizer.piece(id);
    CHECK(tokenizer.find(piece) == id);
  }
  std::string joined;
  for (TokenId id : ids) {
    joined += tokenizer.bytes(id);
  }
  CHECK(joined == text);
}

TEST_CASE("tokenizer: special tokens are recognised, and skipped if asked") {
  const Tokenizer& tokenizer = test_tokenizer("qwen3");
  const auto ids = tokenizer.encode("<|im_start|>user\nHi<|im_end|>", false);
  CHECK(ids.front() == tokenizer.find("<|im_start|>"));
  CHECK(ids.back() == tokenizer.find("<|im_end|>"));
  CHECK(tokenizer.decode(ids, false) == "<|im_start|>user\nHi<|im_end|>");
  CHECK(tokenizer.decode(ids, true) == "user\nHi");
  CHECK(tokenizer.piece(ids.front()) == "<|im_start|>");
}

TEST_CASE("tokenizer: add_special adds what the post-processor adds") {
  const json file = {
      {"model",
       {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", json::array()}}},
      {"added_tokens", {{{"content", "<s>"}, {"special", true}}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", json::array()},
        {"special_tokens",
         {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
  };
  const Tokenizer tokenizer = Tokenizer::from_json(file.dump(), "a test");
  CHECK(tokenizer.encode("a", true) == std::vector<TokenId>{1, 0});
  CHECK(tokenizer.encode("a", false) == std::vector<TokenId>{0});
}

TEST_CASE("tokenizer: bytes that no piece has are spelt, and read back") {
  const Tokenizer& tokenizer = sentence_piece_tokenizer();
  const auto ids = tokenizer.encode("a 漢", false);
  std::vector<std::string> pieces;
  for (TokenId id : ids) {
    pieces.push_back(tokenizer.piece(id));
  }
  CHECK(
      pieces ==
      std::vector<std::string>{"▁a", "▁", "<0xE6>", "<0xBC>", "<0xA2>"});
  CHECK(tokenizer.decode(ids, false) == "a 漢");
}

TEST_CASE("tokenizer: unused ids have no piece and no text") {
  const std::string file =
      R"({"model": {"type": "BPE", "merges": [], "vocab": {"a": 0, "b": 5}}})";
  const Tokenizer tokenizer = Tokenizer::from_json(file, "a test");
  CHECK(tokenizer.vocab_size() == 6);
  CHECK(tokenizer.piece(3) == "");
  CHECK(tokenizer.decode(std::vector<TokenId>{3}, false) == "");
  CHECK_FALSE(tokenizer.find("c"));
}

TEST_CASE("tokenizer: what cannot be encoded or decoded is an error") {
  const Tokenizer& tokenizer = test_tokenizer("demo");
  const auto encode = [&] { tokenizer.encode("ab\xff", false); };
  CHECK(code_of(encode) == ErrorCode::invalid_argument);
  const std::vector<TokenId> ids = {TokenId(tokenizer.vocab_size())};
  const auto decode = [&] { tokenizer.decode(ids, false); };
  CHECK(code_of(decode) == ErrorCode::invalid_argument);
  CHECK(tokenizer.piece(ids[0]) == "");
}

TEST_CASE("tokenizer: a bad file is an error that names it") {
  const auto missing = [] { Tokenizer::from_file("/nowhere/tokenizer.json"); };
  CHECK(code_of(missing) == ErrorCode::not_found);
  const std::string model =
      R"("model": {"type": "BPE", "merges": [], "vocab": {"a": 0}})";
  const std::string bad[] = {
      "",
      "{",
      "[]",
      "null",
      "{\"model\": {}}",
      std::string(100000, '['),
      "{" + model + R"(, "normalizer": )" + std::string(100000, '[') + "}",
      "{" + model + R"(, "decoder": {"type": "Nonsense"}})",
      "{" + model + R"(, "pre_tokenizer": {"type": "Split", "pattern":
          {"Regex": "(("}, "behavior": "Isolated", "invert": false}})",
      "{" + model + R"(, "post_processor": {"type": "BertProcessing",
          "sep": ["x", 1], "cls": ["x", 0]}})",
      "{" + model + ", " + model + "}",
      R"({"model": {"type": "BPE", "merges": [], "vocab": {"a": 4000000000}}})",
  };
  for (const std::string& text : bad) {
    CAPTURE(text.substr(0, 200));
    const auto load = [&] { Tokenizer::from_json(text, "some.json"); };
    CHECK(code_of(load) == ErrorCode::bad_model);
    CHECK_THROWS_WITH_AS(load(), doctest::Contains("some.json"), Error);
  }
}

} // namespace mlx_flash
