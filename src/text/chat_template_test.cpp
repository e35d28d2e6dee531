// Templates of real models against Python's Jinja2, recorded by others
// (tests/data/chat-templates/README.md). All must match; what does not is in a
// table with its reason, and must not begin to match unnoticed.
#include "text/chat_template.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_file.h"

namespace mlx_flash {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

namespace {

const std::string kData = MLX_FLASH_TEST_DATA "/chat-templates/";

// 2025-07-26 12:00:00, at which the renderings were recorded.
constexpr int64_t kNow = 1753531200;

using KnownMismatches = std::map<std::string, std::string>;

// Nothing is an error.
std::optional<std::string>
render(const std::string& source, const json& context, std::string& error) {
  try {
    return ChatTemplate::from_source(source, "a test")
        .render(context.dump(), kNow);
  } catch (const Error& e) {
    error = e.what();
    return std::nullopt;
  }
}

// `expected` is nothing where an error is.
void check_case(
    const std::string& id,
    const std::string& source,
    const json& context,
    const std::optional<std::string>& expected,
    const KnownMismatches& known,
    KnownMismatches& seen) {
  CAPTURE(id);
  std::string error;
  const auto text = render(source, context, error);
  CAPTURE(error);
  const auto mismatch = known.find(id);
  if (mismatch == known.end()) {
    CHECK(text == expected);
    return;
  }
  CAPTURE(mismatch->second);
  CHECK(text != expected);
  seen.insert(*mismatch);
}

struct TemporaryFolder {
  fs::path path = fs::temp_directory_path() /
      ("mlx_flash_chat_template_test." + std::to_string(getpid()));
  TemporaryFolder() {
    fs::create_directories(path);
  }
  ~TemporaryFolder() {
    fs::remove_all(path);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
  }
};

} // namespace

TEST_CASE("chat template: real templates render as in Python") {
  const KnownMismatches known = {
      {"ollama/laguna_v8_chat_template.jinja2",
       "The recording Jinja2 had no {% generation %} tag, which transformers "
       "adds; here the template is taken."},
  };
  KnownMismatches seen;
  const json goldens =
      json::parse(read_file(kData + "goldens-python-jinja2.json"));
  size_t texts = 0;
  size_t errors = 0;
  for (const json& golden : goldens["cases"]) {
    const auto name = golden["template"].get<std::string>();
    std::string id = name;
    json context = json::object();
    if (golden.contains("context")) {
      const auto context_name = golden["context"].get<std::string>();
      id += " " + context_name + " " + golden["extra"].dump();
      context = context_name == "multi_turn"
          ? goldens["multi_turn"]
          : json::parse(
                read_file(kData + "contexts/" + context_name + ".json"));
      context.update(golden["extra"]);
    }
    std::optional<std::string> expected;
    if (golden.contains("expected")) {
      expected = golden["expected"].get<std::string>();
    }
    ++(expected ? texts : errors);
    check_case(id, read_file(kData + name), context, expected, known, seen);
  }
  CHECK(texts == 345);
  CHECK(errors == 32);
  CHECK(seen == known);
}

TEST_CASE("chat template: what Jinja does, case by case") {
  const std::string keys =
      "In Python 1, 1.0 and true are the same key of a dictionary; in minijinja "
      "they are three. No known chat template has such keys.";
  const std::string methods =
      "In Python a method is a value also when it is not called; in minijinja it "
      "is not.";
  const KnownMismatches known = {
      {"test_array_methods / array.append()",
       "The expected text is another engine's; Python's sandbox refuses "
       "append(), and so do we."},
      {"test_array_methods / array.pop() last",
       "The recorded variables are those after pop(); Python's sandbox refuses "
       "it, and so do we."},
      {"test_conditionals / object comparison", keys},
      {"test_set_statement / set dict with mixed type keys", keys},
      {"test_expressions / empty computed member is undefined",
       "Jinja2 takes a[] by accident of its parser; minijinja refuses it."},
      {"test_tests / is callable", methods},
      {"test_object_methods / env should not have object methods", methods},
  };
  KnownMismatches seen;
  const json cases = json::parse(read_file(kData + "jinja-engine-cases.json"));
  CHECK(cases.size() == 132);
  for (const json& engine_case : cases) {
    const std::string id = engine_case["group"].get<std::string>() + " / " +
        engine_case["name"].get<std::string>();
    std::optional<std::string> expected;
    if (engine_case["expected"].is_string()) {
      expected = engine_case["expected"].get<std::string>();
    }
    check_case(
        id,
        engine_case["template"].get<std::string>(),
        engine_case["vars"],
        expected,
        known,
        seen);
  }
  CHECK(seen == known);
}

TEST_CASE("chat template: the template's own complaint reaches the caller") {
  const auto complaint = ChatTemplate::from_source(
      "a\n{{ raise_exception('Roles must alternate') }}", "a test");
  CHECK_THROWS_WITH_AS(
      complaint.render("{}", kNow),
      "[chat template] Roles must alternate (line 2)",
      Error);
  try {
    complaint.render("{}", kNow);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
  }
}

TEST_CASE("chat template: a malformed template is an error with its line") {
  try {
    ChatTemplate::from_source("\n{% for %}", "some.jinja");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::bad_model);
    const std::string message = error.what();
    CHECK(message.find("line 2") != std::string::npos);
    CHECK(message.find("some.jinja") != std::string::npos);
  }
}

TEST_CASE("chat template: an endless loop ends") {
  const std::string loop = "{% for i in range(99999) %}";
  const std::string source = loop + loop + "{% endfor %}{% endfor %}";
  const auto endless = ChatTemplate::from_source(source, "a test");
  CHECK_THROWS_AS(endless.render("{}", kNow), Error);
}

TEST_CASE("chat template: a context that is no object is an error") {
  const auto any = ChatTemplate::from_source("a", "a test");
  CHECK(any.render("{}", kNow) == "a");
  for (const char* context : {"", "[]", "{", "1"}) {
    CHECK_THROWS_AS(any.render(context, kNow), Error);
  }
}

TEST_CASE("chat template: a model folder's template is found") {
  const TemporaryFolder folder;
  const auto found = [&] {
    const auto chat = ChatTemplate::from_model_folder(folder.path.string());
    return chat ? chat->render("{}", kNow) : "none";
  };
  CHECK(found() == "none");
  folder.write("tokenizer_config.json", "{}");
  CHECK(found() == "none");
  folder.write("chat_template.json", R"({"chat_template": "third"})");
  CHECK(found() == "third");
  folder.write("tokenizer_config.json", R"({"chat_template": "second"})");
  CHECK(found() == "second");
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "tools"},
                            {"name": "default", "template": "by name"}]})");
  CHECK(found() == "by name");
  folder.write("chat_template.jinja", "first");
  CHECK(found() == "first");
  fs::remove(folder.path / "chat_template.jinja");
  folder.write("tokenizer_config.json", "[");
  CHECK_THROWS_AS(found(), Error);
}

TEST_CASE("chat template: special tokens in both spellings") {
  const TemporaryFolder folder;
  const std::string path = folder.path.string();
  CHECK(special_tokens_json(path) == "{}");
  folder.write(
      "tokenizer_config.json",
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
          "pad_token": null, "add_bos_token": true, "model_max_length": 4})");
  CHECK(
      json::parse(special_tokens_json(path)) ==
      json({{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
}

} // namespace mlx_flash
