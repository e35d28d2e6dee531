#include "server/api/ollama_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/rfc3339.h"
#include "parse/answer_parser.h"
#include "server/api/ollama_folder.h"
#include "server/api/ollama_reply.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view kLatest = ":latest";

bool has_tag(const std::string& name) {
  const size_t slash = name.rfind('/');
  return name.find(':', slash == std::string::npos ? 0 : slash) !=
      std::string::npos;
}

std::string known_names(const ModelHost& models) {
  std::string names;
  for (const ServedModel& model : models.models()) {
    names += (names.empty() ? "" : ", ") + model.name;
  }
  return names;
}

} // namespace

std::string shown_name(const std::string& name) {
  return has_tag(name) ? name : name + std::string(kLatest);
}

const ServedModel& find_ollama_model(
    const ModelHost& models,
    const std::string& name) {
  const ServedModel* found = models.find(name);
  if (!found && name.ends_with(kLatest)) {
    found = models.find(name.substr(0, name.size() - kLatest.size()));
  } else if (!found && !has_tag(name)) {
    found = models.find(name + std::string(kLatest));
  }
  if (!found) {
    throw ApiError(
        ApiErrorKind::not_found,
        fmt::format(
            "model '{}' not found; this server has {}",
            name.substr(0, 256),
            known_names(models)))
        .at("model");
  }
  return *found;
}

ModelAbilities abilities_of(const std::string& chat_template) {
  const parse::AnswerForm form = parse::find_answer_form(chat_template);
  return {form.tools != nullptr, !form.think_open.empty()};
}

void check_ollama_request(
    const OllamaRequest& request,
    const Plan& plan,
    const ModelAbilities& abilities) {
  // Ollama cuts it to what the model was made for, too.
  const uint64_t context =
      std::min(request.context.value_or(0), plan.model_context);
  if (context > plan.context_tokens) {
    throw invalid_field(
        "options.num_ctx",
        fmt::format(
            "options.num_ctx is {}, but this server has room for {} tokens; "
            "ask for no more, or start it with --ctx {}",
            *request.context,
            plan.context_tokens,
            context));
  }
  const auto lacks = [&](const char* field, const char* what) {
    return invalid_field(
        field, fmt::format("'{}' does not support {}", request.model, what));
  };
  if (request.must_think && !abilities.thinking) {
    throw lacks("think", "thinking");
  }
  if (request.must_call && !abilities.tools) {
    throw lacks("tools", "tools");
  }
}

namespace {

Json details_of(const ModelFolder& folder) {
  Json families = Json::array();
  if (!folder.model_type.empty()) {
    families.push_back(folder.model_type);
  }
  return {
      {"parent_model", ""},
      {"format", "safetensors"},
      {"family", folder.model_type},
      {"families", std::move(families)},
      {"parameter_size", ""}, // no file says it
      {"quantization_level", folder.quantization}};
}

std::string text_of(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The lease of `model` if it is what is loaded, else null.
std::shared_ptr<ModelLease> loaded(ModelHost& models, const std::string& name) {
  auto lease = models.current();
  return lease && lease->model().name == name ? lease : nullptr;
}

} // namespace

std::string ollama_tags(const ModelHost& models) {
  Json list = Json::array();
  for (const ServedModel& model : models.models()) {
    const ModelFolder folder = read_model_folder(model.engine.model);
    std::vector<std::string> names{model.name};
    names.insert(names.end(), model.aliases.begin(), model.aliases.end());
    for (const std::string& name : names) {
      list.push_back(
          {{"name", shown_name(name)},
           {"model", shown_name(name)},
           {"modified_at", rfc3339(folder.modified)},
           {"size", folder.weight_bytes},
           {"digest", folder.digest},
           {"details", details_of(folder)}});
    }
  }
  return text_of({{"models", std::move(list)}});
}

std::string ollama_ps(
    ModelHost& models,
    std::chrono::system_clock::time_point now) {
  Json list = Json::array();
  if (const auto lease = models.current()) {
    const ModelFolder folder = read_model_folder(lease->model().engine.model);
    const ModelStatus status = models.status();
    const std::string name = shown_name(lease->model().name);
    const Plan& plan = lease->engine().plan();
    // Clients show what is more than twenty years away as "forever".
    const auto left = std::chrono::duration<double>(
        status.seconds_left.value_or(100 * 365.25 * 24 * 3600));
    const bool gpu = lease->engine().stats().device == "gpu";
    list.push_back(
        {{"name", name},
         {"model", name},
         {"size", plan.planned_bytes},
         {"digest", folder.digest},
         {"details", details_of(folder)},
         {"expires_at",
          rfc3339(
              now +
              std::chrono::duration_cast<std::chrono::system_clock::duration>(
                  left))},
         {"size_vram", gpu ? plan.planned_bytes : 0},
         {"context_length", plan.context_tokens}});
  }
  return text_of({{"models", std::move(list)}});
}

namespace {

struct Shown {
  ModelFolder folder;
  std::string chat_template;
  uint64_t context = 0; // what a request may ask for
  std::string parameters; // a line for each default
};

void show_loaded(const Engine& engine, Shown& shown) {
  const Plan& plan = engine.plan();
  shown.chat_template = engine.text().template_source();
  shown.context = std::min(plan.context_tokens, plan.model_context);
  const SamplingOptions& sampling = engine.default_sampling();
  // Some clients ask for the context that stands here.
  const auto add = [&](const char* name, auto value) {
    shown.parameters += fmt::format(
        "{}{:<30} {}", shown.parameters.empty() ? "" : "\n", name, value);
  };
  add("num_ctx", shown.context);
  add("temperature", sampling.temperature);
  add("top_k", sampling.top_k);
  add("top_p", sampling.top_p);
  add("min_p", sampling.min_p);
  add("repeat_penalty", sampling.repetition_penalty);
}

void show_folder(const ServedModel& model, Shown& shown) {
  shown.chat_template = model.engine.text
      ? model.engine.text->template_source()
      : read_chat_template(model.engine.model);
  shown.context = shown.folder.context_length;
  if (const uint64_t given = model.engine.context_tokens) {
    shown.context = shown.context ? std::min(shown.context, given) : given;
  }
}

Json model_info(const Shown& shown, const std::string& name) {
  const ModelFolder& folder = shown.folder;
  const std::string& type = folder.model_type;
  Json info{{"general.architecture", type}, {"general.basename", name}};
  const auto add = [&](const char* field, uint64_t value) {
    if (value > 0) {
      info[fmt::format("{}.{}", type, field)] = value;
    }
  };
  add("context_length", shown.context);
  add("block_count", folder.block_count);
  add("embedding_length", folder.embedding_length);
  add("vocab_size", folder.vocab_size);
  add("expert_count", folder.expert_count);
  add("expert_used_count", folder.expert_used_count);
  return info;
}

} // namespace

std::string ollama_show(
    ModelHost& models,
    const ServedModel& model,
    const std::string& name) {
  Shown shown;
  shown.folder = read_model_folder(model.engine.model);
  if (const auto lease = loaded(models, model.name)) {
    show_loaded(lease->engine(), shown);
  } else {
    show_folder(model, shown);
  }
  const ModelAbilities abilities = abilities_of(shown.chat_template);
  Json capabilities{"completion"};
  if (abilities.tools) {
    capabilities.push_back("tools");
  }
  if (abilities.thinking) {
    capabilities.push_back("thinking");
  }
  if (model.embedding.pooling != Pooling::none) {
    capabilities.push_back("embedding");
  }
  return text_of(
      {{"modelfile",
        fmt::format("# Served by mlx-flash\nFROM {}\n", shown_name(name))},
       {"parameters", shown.parameters},
       {"template", shown.chat_template},
       {"details", details_of(shown.folder)},
       {"model_info", model_info(shown, name)},
       {"capabilities", std::move(capabilities)},
       {"modified_at", rfc3339(shown.folder.modified)}});
}

} // namespace mlx_flash::server
