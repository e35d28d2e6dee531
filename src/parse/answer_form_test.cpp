#include "parse/answer_form.h"

#include <map>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "base/read_file.h"
#include "parse/answer_parser.h"

namespace mlx_flash::parse {

namespace {

using json = nlohmann::ordered_json;

const std::string kData = MLX_FLASH_TEST_DATA "/chat-templates/";

const json& goldens() {
  static const json all =
      json::parse(read_file(kData + "goldens-python-jinja2.json"));
  return all;
}

std::set<std::string> templates() {
  std::set<std::string> names;
  for (const json& golden : goldens()["cases"]) {
    names.insert(golden["template"].get<std::string>());
  }
  return names;
}

AnswerForm form_of(const std::string& name) {
  return find_answer_form(read_file(kData + name));
}

} // namespace

TEST_CASE("answer form: real templates teach what they teach") {
  const std::map<std::string, std::string> taught = {
      {"llama.cpp/MiroThinker.jinja", "qwen-json"},
      {"llama.cpp/Qwen-QwQ-32B.jinja", "qwen-json"},
      {"llama.cpp/Qwen-Qwen3-0.6B.jinja", "qwen-json"},
      {"vllm/tool_chat_template_hermes.jinja", "qwen-json"},
      {"llama.cpp/Qwen-Qwen3-Coder-30B-A3B-Instruct.jinja", "qwen-xml"},
      {"llama.cpp/Qwen3-Coder.jinja", "qwen-xml"},
      {"llama.cpp/Qwen3.5-35B-A3B-family.jinja", "qwen-xml"},
      {"llama.cpp/StepFun3.5-Flash.jinja", "qwen-xml"},
      {"llama.cpp/stepfun-ai-Step-3.5-Flash.jinja", "qwen-xml"},
      {"ollama/nemotron35_chat_template.jinja2", "qwen-xml"},
      {"ollama/nemotron3nano_chat_template.jinja2", "qwen-xml"},
      {"ollama/qwen38_chat_template.jinja", "qwen-xml"},
      {"vllm/tool_chat_template_qwen3coder.jinja", "qwen-xml"},
  };
  size_t found = 0;
  for (const std::string& name : templates()) {
    CAPTURE(name);
    const AnswerForm form = form_of(name);
    const auto expected = taught.find(name);
    REQUIRE((form.tools != nullptr) == (expected != taught.end()));
    if (form.tools != nullptr) {
      CHECK(form.tools->name() == expected->second);
      ++found;
    }
  }
  CHECK(found == taught.size());
}

TEST_CASE("answer form: models reason whose templates know of reasoning") {
  for (const char* name :
       {"llama.cpp/Qwen-Qwen3-0.6B.jinja",
        "llama.cpp/deepseek-ai-DeepSeek-V3.1.jinja",
        "llama.cpp/GLM-4.6.jinja",
        "vllm/tool_chat_template_deepseekr1.jinja"}) {
    CAPTURE(name);
    CHECK(form_of(name).think_open == "<think>");
    CHECK(form_of(name).think_close == "</think>");
  }
  for (const char* name :
       {"llama.cpp/Qwen3-Coder.jinja",
        "llama.cpp/meta-llama-Llama-3.1-8B-Instruct.jinja",
        "llama.cpp/ByteDance-Seed-OSS.jinja",
        "llama.cpp/openai-gpt-oss-120b.jinja"}) {
    CAPTURE(name);
    CHECK(form_of(name).think_open == "");
  }
}

TEST_CASE("answer form: an answer begins where the prompt has left it") {
  const AnswerForm form = form_of("llama.cpp/Qwen-Qwen3-0.6B.jinja");
  CHECK(begins_in_reasoning(form, "<|im_start|>assistant\n<think>\n"));
  CHECK(begins_in_reasoning(form, "<think>"));
  CHECK(!begins_in_reasoning(form, "<think>\n\n</think>\n\n"));
  CHECK(!begins_in_reasoning(form, "<|im_start|>assistant\n"));
  CHECK(!begins_in_reasoning(form, ""));
  CHECK(!begins_in_reasoning(form, " \n"));
  CHECK(!begins_in_reasoning(AnswerForm{}, "<think>\n"));
}

TEST_CASE("answer form: rendered prompts of real templates open reasoning") {
  const std::map<std::string, bool> opened = {
      {"llama.cpp/Qwen-Qwen3-0.6B.jinja", false},
      {"llama.cpp/Qwen3.5-35B-A3B-family.jinja", true},
      {"llama.cpp/StepFun3.5-Flash.jinja", true},
      {"llama.cpp/GLM-5.2.jinja", true},
      {"ollama/qwen38_chat_template.jinja", true},
      {"ollama/nemotron35_chat_template.jinja2", true},
  };
  size_t seen = 0;
  for (const json& golden : goldens()["cases"]) {
    const auto name = golden["template"].get<std::string>();
    if (opened.contains(name) && golden.value("context", "") == "simple" &&
        golden["extra"].empty()) {
      CAPTURE(name);
      const auto prompt = golden["expected"].get<std::string>();
      CHECK(begins_in_reasoning(form_of(name), prompt) == opened.at(name));
      ++seen;
    }
  }
  CHECK(seen == opened.size());
}

TEST_CASE("answer form: calls in rendered conversations are read back") {
  const json context = json::parse(read_file(kData + "contexts/tool_use.json"));
  std::vector<ToolSignature> tools;
  for (const json& tool : context["tools"]) {
    tools.push_back(
        {tool["function"]["name"], tool["function"]["parameters"].dump()});
  }
  size_t conversations = 0;
  for (const json& golden : goldens()["cases"]) {
    const auto name = golden["template"].get<std::string>();
    const AnswerForm form = form_of(name);
    if (golden.value("context", "") != "tool_use" || form.tools == nullptr ||
        !golden.contains("expected")) {
      continue;
    }
    CAPTURE(name);
    const auto text = golden["expected"].get<std::string>();
    size_t at = 0;
    for (const json& message : context["messages"]) {
      if (message["role"] != "assistant") {
        continue;
      }
      const std::string begin = "<|im_start|>assistant\n";
      at = text.find(begin, at) + begin.size();
      const auto answer = parse_answer(
          form,
          tools,
          false,
          std::string_view(text).substr(at, text.find("<|im_end|>", at) - at));
      CHECK(answer.content == message["content"]);
      REQUIRE(answer.calls.size() == message.contains("tool_calls"));
      if (!answer.calls.empty()) {
        const json& call = message["tool_calls"][0]["function"];
        CHECK(answer.calls[0].name == call["name"]);
        // Recorded with arguments as strings, which templates of this form
        // leave out.
        const bool printed = form.tools->name() != "qwen-xml";
        CHECK(
            json::parse(answer.calls[0].arguments) ==
            (printed ? json::parse(call["arguments"].get<std::string>())
                     : json::object()));
      }
    }
    ++conversations;
  }
  CHECK(conversations == 4);
}

} // namespace mlx_flash::parse
