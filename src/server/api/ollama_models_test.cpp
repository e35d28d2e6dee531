#include "base/rfc3339.h"
#include "server/api/ollama_models.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <utime.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "server/api/ollama_folder.h"
#include "server/api/ollama_reply.h"
#include "server/api/test_ollama.h"
#include "server/test_loop.h"
#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;
namespace fs = std::filesystem;

namespace {

class TempFolder {
 public:
  TempFolder() {
    std::string name =
        (fs::temp_directory_path() / "mlx_flash_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path_ = name;
  }
  ~TempFolder() {
    fs::remove_all(path_);
  }

  const fs::path& path() const {
    return path_;
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
    // 2026-11-22T22:07:00Z
    const utimbuf times{1795385220, 1795385220};
    REQUIRE(utime((path_ / name).c_str(), &times) == 0);
  }

 private:
  fs::path path_;
};

constexpr const char* kConfig = R"({"model_type": "qwen3_moe",
    "max_position_embeddings": 40960, "num_hidden_layers": 48,
    "hidden_size": 2048, "vocab_size": 151936, "num_experts": 128,
    "num_experts_per_tok": 8, "torch_dtype": "bfloat16",
    "quantization": {"bits": 4, "group_size": 64}})";

void write_model(const TempFolder& folder) {
  folder.write("config.json", kConfig);
  folder.write("model-00001.safetensors", std::string(1000, 'a'));
  folder.write("model-00002.safetensors", std::string(234, 'b'));
  folder.write("notes.txt", "not a weight");
}

struct Fixture {
  Fixture() {
    write_model(folder);
    options.models[0].engine.model = folder.path();
    options.models[1].name = "acme/other:30b";
    host.emplace(options, loop);
  }

  void load(const std::string& name, std::optional<double> keep = {}) {
    bool done = false;
    (void)host->acquire(
        name,
        [&](const std::shared_ptr<ModelLease>& lease) {
          if (keep) {
            lease->keep(*keep);
          }
          done = true;
        },
        [&](const ApiError&) {});
    REQUIRE(loop.run_until([&] { return done; }));
    loop.run();
  }
  Json show(const std::string& name) {
    return Json::parse(
        ollama_show(*host, find_ollama_model(*host, name), name));
  }

  TempFolder folder;
  Scripted scripted{ScriptedSetup{.context_tokens = 2048}};
  ManualLoop loop;
  ServerOptions options = scripted_options(scripted);
  std::optional<ModelHost> host;
};

} // namespace

TEST_CASE("model folder: sizes, type and numbers without loading it") {
  const TempFolder folder;
  write_model(folder);
  const ModelFolder model = read_model_folder(folder.path());
  CHECK(model.model_type == "qwen3_moe");
  CHECK(model.quantization == "4-bit");
  CHECK(model.context_length == 40960);
  CHECK(model.block_count == 48);
  CHECK(model.embedding_length == 2048);
  CHECK(model.vocab_size == 151936);
  CHECK(model.expert_count == 128);
  CHECK(model.expert_used_count == 8);
  CHECK(model.weight_bytes == 1234);
  CHECK(std::chrono::system_clock::to_time_t(model.modified) == 1795385220);
}

TEST_CASE("model folder: sizes of a text half, and types without bits") {
  const TempFolder folder;
  folder.write("config.json", R"({"model_type": "qwen3_vl", "dtype": "float16",
      "text_config": {"num_hidden_layers": 3}})");
  const ModelFolder model = read_model_folder(folder.path());
  CHECK(model.model_type == "qwen3_vl");
  CHECK(model.block_count == 3);
  CHECK(model.quantization == "F16");
}

TEST_CASE("model folder: what is missing or malformed is empty") {
  const TempFolder folder;
  for (const char* config :
       {"", "{", "[]", R"({"model_type": 3, "hidden_size": "x",
        "vocab_size": -1, "quantization": 4, "text_config": []})"}) {
    folder.write("config.json", config);
    const ModelFolder model = read_model_folder(folder.path());
    CHECK(model.model_type.empty());
    CHECK(model.embedding_length == 0);
    CHECK(model.vocab_size == 0);
    CHECK(model.quantization.empty());
    CHECK(model.weight_bytes == 0);
  }
  CHECK(read_model_folder("/nowhere/at/all").weight_bytes == 0);
}

TEST_CASE("model folder: the digest tells models apart, and says what it is") {
  const TempFolder folder;
  write_model(folder);
  const std::string digest = read_model_folder(folder.path()).digest;
  CHECK(digest.size() == 5 + 32);
  CHECK(digest.starts_with("xxh3:"));
  CHECK(read_model_folder(folder.path()).digest == digest);
  folder.write("notes.txt", "longer than before");
  CHECK(read_model_folder(folder.path()).digest == digest);
  folder.write("model-00002.safetensors", std::string(235, 'b'));
  const std::string other = read_model_folder(folder.path()).digest;
  CHECK(other != digest);
  folder.write("config.json", "{}");
  CHECK(read_model_folder(folder.path()).digest != other);
}

TEST_CASE("model folder: the chat template, wherever it is") {
  const TempFolder folder;
  CHECK(read_chat_template(folder.path()).empty());
  folder.write("chat_template.json", R"({"chat_template": "third"})");
  CHECK(read_chat_template(folder.path()) == "third");
  folder.write("tokenizer_config.json", R"({"chat_template": [
      {"name": "tool_use", "template": "no"}, 3,
      {"name": "default", "template": "second"}]})");
  CHECK(read_chat_template(folder.path()) == "second");
  folder.write("chat_template.jinja", "first");
  CHECK(read_chat_template(folder.path()) == "first");
}

TEST_CASE("ollama names: shown with a tag, and found without") {
  CHECK(shown_name("qwen3") == "qwen3:latest");
  CHECK(shown_name("qwen3:30b") == "qwen3:30b");
  CHECK(shown_name("acme/qwen3") == "acme/qwen3:latest");
  CHECK(shown_name("host:80/qwen3") == "host:80/qwen3:latest");

  Fixture f;
  const auto name_of = [&](const std::string& name) {
    return find_ollama_model(*f.host, name).name;
  };
  CHECK(name_of("scripted") == "scripted");
  CHECK(name_of("scripted:latest") == "scripted");
  CHECK(name_of("default:latest") == "scripted");
  CHECK(name_of("acme/other:30b") == "acme/other:30b");
  for (const char* wrong :
       {"scripted:7b", "scripted:latest:latest", "acme/other", "", ":latest"}) {
    CAPTURE(wrong);
    const auto error = error_of([&] { name_of(wrong); });
    REQUIRE(error);
    CHECK(error->kind() == ApiErrorKind::not_found);
    CHECK(error->param == "model");
  }
  CHECK(
      error_of([&] { name_of("llama"); })->what() ==
      std::string("model 'llama' not found; this server has scripted, "
                  "acme/other:30b"));
}

TEST_CASE("ollama names: a model that is called latest") {
  Fixture f;
  f.options.models[1].name = "other:latest";
  const ModelHost host(f.options, f.loop);
  CHECK(find_ollama_model(host, "other").name == "other:latest");
}

TEST_CASE("ollama tags: all models and their aliases, loaded or not") {
  Fixture f;
  const Json tags = Json::parse(ollama_tags(*f.host));
  REQUIRE(tags["models"].size() == 3);
  const ModelFolder folder = read_model_folder(f.folder.path());
  CHECK(
      tags["models"][0] ==
      Json(
          {{"name", "scripted:latest"},
           {"model", "scripted:latest"},
           {"modified_at", "2026-11-22T22:07:00.000000000Z"},
           {"size", 1234},
           {"digest", folder.digest},
           {"details",
            {{"parent_model", ""},
             {"format", "safetensors"},
             {"family", "qwen3_moe"},
             {"families", Json::array({"qwen3_moe"})},
             {"parameter_size", ""},
             {"quantization_level", "4-bit"}}}}));
  CHECK(tags["models"][1]["name"] == "default:latest");
  CHECK(tags["models"][1]["digest"] == folder.digest);
  CHECK(tags["models"][2]["name"] == "acme/other:30b");
  CHECK(tags["models"][2]["size"] == 0); // its folder is not there
  CHECK(f.scripted.opened() == 0);
}

TEST_CASE("ollama ps: the model in memory, and until when") {
  Fixture f;
  CHECK(
      Json::parse(ollama_ps(*f.host, test_moment())) ==
      Json{{"models", Json::array()}});
  f.load("default", 60);
  const Json ps = Json::parse(ollama_ps(*f.host, test_moment()));
  REQUIRE(ps["models"].size() == 1);
  const Json& model = ps["models"][0];
  CHECK(model["name"] == "scripted:latest");
  CHECK(model["model"] == "scripted:latest");
  CHECK(model["size"] == 5'000'000'000);
  CHECK(model["size_vram"] == 0);
  CHECK(model["context_length"] == 2048);
  CHECK(model["details"]["family"] == "qwen3_moe");
  const std::string expires = model["expires_at"];
  CHECK(expires > rfc3339(test_moment()));
  CHECK(expires <= "2026-11-22T22:08:00.1");

  f.load("default", -1);
  const Json forever = Json::parse(ollama_ps(*f.host, test_moment()));
  CHECK(forever["models"][0]["expires_at"] > "2126");
}

TEST_CASE("ollama show: a model that is loaded says what it can hold") {
  Fixture f;
  f.load("scripted");
  const Json show = f.show("default");
  CHECK(
      show["capabilities"] == Json::array({"completion", "tools", "thinking"}));
  CHECK(show["template"] == ScriptedText().template_source());
  CHECK(show["details"]["family"] == "qwen3_moe");
  CHECK(show["modified_at"] == "2026-11-22T22:07:00.000000000Z");
  const Json& info = show["model_info"];
  CHECK(info["general.architecture"] == "qwen3_moe");
  CHECK(info["general.basename"] == "default");
  CHECK(info["qwen3_moe.context_length"] == 2048);
  CHECK(info["qwen3_moe.block_count"] == 48);
  CHECK(info["qwen3_moe.expert_used_count"] == 8);
  const std::string parameters = show["parameters"];
  CHECK(parameters.starts_with("num_ctx                        2048\n"));
  CHECK(parameters.find("\nrepeat_penalty ") != std::string::npos);
  CHECK(
      show["modelfile"].get<std::string>().ends_with("FROM default:latest\n"));
}

TEST_CASE("ollama show: a model that is not loaded stays so") {
  Fixture f;
  Json show = f.show("scripted");
  CHECK(show["capabilities"] == Json::array({"completion"}));
  CHECK(show["parameters"] == "");
  CHECK(show["model_info"]["qwen3_moe.context_length"] == 40960);
  f.folder.write("chat_template.jinja", ScriptedText().template_source());
  show = f.show("scripted");
  CHECK(
      show["capabilities"] == Json::array({"completion", "tools", "thinking"}));
  show = f.show("acme/other:30b");
  CHECK(show["model_info"]["general.architecture"] == "");
  CHECK(f.scripted.opened() == 0);
}

TEST_CASE("ollama show: the context that the server was started with") {
  Fixture f;
  f.options.models[0].engine.context_tokens = 8192;
  ModelHost host(f.options, f.loop);
  const Json show = Json::parse(
      ollama_show(host, find_ollama_model(host, "scripted"), "scripted"));
  CHECK(show["model_info"]["qwen3_moe.context_length"] == 8192);
}

TEST_CASE("ollama: a request asks for what the model can do") {
  Plan plan;
  plan.context_tokens = 4096;
  plan.model_context = 32768;
  OllamaRequest request;
  request.model = "qwen3:latest";
  const auto wrong = [&](const ModelAbilities& abilities) {
    return field_of([&] { check_ollama_request(request, plan, abilities); });
  };
  CHECK(wrong({}) == "none");
  request.must_think = true;
  CHECK(wrong({.tools = true}) == "think");
  CHECK(wrong({.thinking = true}) == "none");
  request.must_think = false;
  request.must_call = true;
  CHECK(wrong({.thinking = true}) == "tools");
  CHECK(wrong({.tools = true}) == "none");
}

TEST_CASE("ollama: room for a context is there, or the error says how") {
  Plan plan;
  plan.context_tokens = 4096;
  plan.model_context = 32768;
  OllamaRequest request;
  const auto error = [&](uint64_t context) {
    request.context = context;
    return error_of([&] { check_ollama_request(request, plan, {}); });
  };
  CHECK(!error(1));
  CHECK(!error(4096));
  REQUIRE(error(8192));
  CHECK(error(8192)->param == "options.num_ctx");
  CHECK(
      std::string(error(8192)->what()).find("--ctx 8192") != std::string::npos);
  // No more than the model was made for.
  CHECK(std::string(error(1000000)->what()).ends_with("--ctx 32768"));
  plan.context_tokens = 65536; // of several sessions
  CHECK(!error(1000000));
}

TEST_CASE("ollama: abilities are those that the template teaches") {
  const ModelAbilities none = abilities_of("{{ messages }}");
  CHECK(!none.tools);
  CHECK(!none.thinking);
  const ModelAbilities both = abilities_of(ScriptedText().template_source());
  CHECK(both.tools);
  CHECK(both.thinking);
}
