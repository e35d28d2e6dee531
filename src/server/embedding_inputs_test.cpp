#include "server/embedding_inputs.h"

#include <doctest/doctest.h>

#include "server/test_scripted_engine.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

namespace {

using Tokens = std::vector<TokenId>;

// A tokenizer that puts a mark before and behind texts.
class MarkingText : public ScriptedText {
 public:
  std::vector<TokenId> encode(std::string_view text, bool add_special)
      const override {
    auto ids = ScriptedText::encode(text, add_special);
    if (add_special) {
      ids.insert(ids.begin(), kScriptedStart);
      ids.push_back(kScriptedEnd);
    }
    return ids;
  }
};

struct Fixture {
  explicit Fixture(uint64_t context, uint64_t model_context = 4096) {
    plan.context_tokens = context;
    plan.model_context = model_context;
  }

  std::vector<Tokens> read(const EmbeddingJob& job) const {
    return make_embedding_inputs(job, text, kScriptedVocab, plan);
  }
  ApiError error(const EmbeddingJob& job) const {
    try {
      read(job);
    } catch (const ApiError& wrong) {
      return wrong;
    }
    FAIL("accepted");
    return invalid_field("", "");
  }

  const MarkingText text;
  Plan plan;
};

EmbeddingJob job_of(
    std::vector<std::variant<std::string, Tokens>> inputs,
    bool truncate = false) {
  EmbeddingJob job;
  job.inputs = std::move(inputs);
  job.truncate = truncate;
  return job;
}

ServedModel model_of(EmbeddingForm form) {
  ServedModel model;
  model.name = "demo";
  model.embedding = std::move(form);
  return model;
}

} // namespace

TEST_CASE("embedding inputs: texts get the tokenizer's marks, tokens do not") {
  const Fixture f(100);
  CHECK(
      f.read(job_of({"ab", Tokens{'c', 'd'}, "<think>"})) ==
      std::vector<Tokens>{
          {kScriptedStart, 'a', 'b', kScriptedEnd},
          {'c', 'd'},
          {kScriptedStart, 258, kScriptedEnd}});
}

TEST_CASE("embedding inputs: what is wrong is named, alone or in a list") {
  const Fixture f(100);
  CHECK(f.error(job_of({""})).param == "input");
  CHECK(f.error(job_of({"a", ""})).param == "input[1]");
  CHECK(f.error(job_of({"a", Tokens{}})).param == "input[1]");
  CHECK(f.error(job_of({"a", Tokens{1, 262}})).param == "input[1][1]");
  EmbeddingJob job = job_of({Tokens{262}});
  job.field = "prompt";
  CHECK(f.error(job).param == "prompt[0]");
}

TEST_CASE("embedding inputs: what is longer than the context is refused") {
  const Fixture f(10);
  CHECK(f.read(job_of({"12345678"}))[0].size() == 10);
  const ApiError error = f.error(job_of({"a", "123456789"}));
  CHECK(error.param == "input[1]");
  CHECK(error.code == "context_length_exceeded");
  CHECK(std::string(error.what()).find("11 tokens") != std::string::npos);
  CHECK(std::string(error.what()).find("--ctx") != std::string::npos);
  const Fixture own(100, 10); // the model's own limit
  const ApiError other = own.error(job_of({Tokens(11, 'a')}));
  CHECK(std::string(other.what()).find("--ctx") == std::string::npos);
}

TEST_CASE("embedding inputs: a text that is cut keeps the marks at its ends") {
  const Fixture f(6);
  CHECK(
      f.read(job_of({"abcdefgh", Tokens(9, 'x'), "ab"}, true)) ==
      std::vector<Tokens>{
          {kScriptedStart, 'a', 'b', 'c', 'd', kScriptedEnd},
          Tokens(6, 'x'),
          {kScriptedStart, 'a', 'b', kScriptedEnd}});
  CHECK(
      Fixture(2).read(job_of({"abc"}, true)) ==
      std::vector<Tokens>{{kScriptedStart, 'a'}});
}

TEST_CASE("embedding inputs: a model without embeddings is refused by name") {
  EmbeddingForm none;
  none.why_none = "because";
  try {
    check_embeddings(job_of({"a"}), model_of(none));
    FAIL("accepted");
  } catch (const ApiError& error) {
    CHECK(error.kind() == ApiErrorKind::invalid_request);
    CHECK(error.param == "model");
    CHECK(error.code == "unsupported");
    CHECK(
        std::string(error.what()) ==
        "the model 'demo' has no embeddings: because");
  }
}

TEST_CASE("embedding inputs: dimensions are the model's or none") {
  const ServedModel model = model_of(scripted_form());
  EmbeddingJob job = job_of({"a"});
  CHECK_NOTHROW(check_embeddings(job, model));
  job.dimensions = 4;
  CHECK_NOTHROW(check_embeddings(job, model));
  job.dimensions = 2;
  try {
    check_embeddings(job, model);
    FAIL("accepted");
  } catch (const ApiError& error) {
    CHECK(error.param == "dimensions");
    CHECK(std::string(error.what()).find("4") != std::string::npos);
  }
}
