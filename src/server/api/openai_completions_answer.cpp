#include "server/api/openai_completions_answer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "server/api/routes.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kObject = "text_completion"; // chunks, too

// In characters, as text_offset counts.
size_t characters(std::string_view bytes) {
  return static_cast<size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char c) {
        return (static_cast<uint8_t>(c) & 0xc0) != 0x80;
      }));
}

// A part of a character has a name by which its bytes can be told.
std::string name_of(const TokenText& token) {
  std::string name = token_name(token.bytes);
  return name == token.bytes ? name : "bytes:" + name;
}

// A choice's log-probabilities in the older form: four arrays of one length.
class LogprobArrays {
 public:
  // `echo`: the first token is a prompt's and has none.
  explicit LogprobArrays(bool echo) : echo_(echo) {}

  // Of the tokens that come with `text`.
  Json take(std::string_view text, std::span<const TokenText> tokens) {
    Json arrays = {
        {"tokens", Json::array()},
        {"token_logprobs", Json::array()},
        {"top_logprobs", Json::array()},
        {"text_offset", Json::array()},
    };
    for (const TokenText& token : tokens) {
      const bool none = echo_ && !begun_;
      arrays["tokens"].push_back(name_of(token));
      arrays["token_logprobs"].push_back(
          none ? Json() : Json(logprob_number(token.logprob)));
      arrays["top_logprobs"].push_back(none ? Json() : best(token));
      arrays["text_offset"].push_back(offset_);
      // A prompt's first token may be one that its text does not have.
      if (!none || text.substr(0, token.bytes.size()) == token.bytes) {
        offset_ += characters(token.bytes);
      }
      begun_ = true;
    }
    return arrays;
  }

 private:
  // With the token itself, be it among the best or not.
  static Json best(const TokenText& token) {
    Json names = Json::object();
    for (const TokenText& each : token.top) {
      names[name_of(each)] = logprob_number(each.logprob);
    }
    names[name_of(token)] = logprob_number(token.logprob);
    return names;
  }

  const bool echo_;
  bool begun_ = false;
  size_t offset_ = 0;
};

Json choice_object(size_t index, const std::string& text) {
  return {
      {"index", index},
      {"text", text},
      {"logprobs", nullptr},
      {"finish_reason", nullptr},
  };
}

class CompletionStream : public ChunkSink {
 public:
  CompletionStream(
      const CompletionForm& form,
      const std::shared_ptr<OpenAiStream>& stream)
      : ChunkSink(
            form.head,
            kObject,
            form.wishes.stream,
            form.choices(),
            stream),
        held_(stream->exchange(), HeldLogprobs::kAsText),
        with_logprobs_(form.wishes.logprobs),
        logprobs_(form.choices(), LogprobArrays(form.wishes.echo)) {}

  void on_scoring(uint64_t tokens, uint64_t candidates) override {
    held_.expect(tokens, candidates);
  }

  void on_start(const JobStart& start) override {
    set_model(start.model);
  }

  void on_part(size_t choice, AnswerPart part) override {
    if (part.text.empty() && part.tokens.empty()) {
      return;
    }
    Json object = choice_object(choice, part.text);
    if (with_logprobs_) {
      held_.add(part.tokens); // with `echo` those of all of the prompt
      object["logprobs"] = logprobs_[choice].take(part.text, part.tokens);
    }
    write(std::move(object));
    held_.clear();
  }

 protected:
  Json empty_choice(size_t index) const override {
    return choice_object(index, {});
  }

 private:
  HeldLogprobs held_;
  const bool with_logprobs_;
  std::vector<LogprobArrays> logprobs_; // of each choice
};

} // namespace

Json completion_object(
    const CompletionForm& form,
    const CollectedAnswer& answer) {
  Json choices = Json::array();
  for (const CollectedChoice& each : answer.choices) {
    Json choice = choice_object(choices.size(), each.content);
    if (form.wishes.logprobs) {
      choice["logprobs"] =
          LogprobArrays(form.wishes.echo).take(each.content, each.tokens);
    }
    choice["finish_reason"] = finish_reason_word(each.end.reason);
    choices.push_back(std::move(choice));
  }
  return {
      {"id", form.head.id},
      {"object", kObject},
      {"created", form.head.created},
      {"model", answer.start.model},
      {"choices", std::move(choices)},
      {"usage", usage_object(answer.usage)},
      {"timings", timings_object(answer.usage, answer.timings)},
  };
}

std::shared_ptr<AnswerSink> make_completion_stream(
    const CompletionForm& form,
    std::shared_ptr<OpenAiStream> stream) {
  return std::make_shared<CompletionStream>(form, std::move(stream));
}

std::shared_ptr<AnswerSink> make_completion_collector(
    const CompletionForm& form,
    std::shared_ptr<HttpExchange> exchange) {
  return std::make_shared<AnswerCollector>(
      form.choices(),
      exchange,
      [form, exchange](CollectedAnswer answer) {
        HttpResponse response;
        response.body = to_text(completion_object(form, answer));
        exchange->send(std::move(response));
      },
      [exchange](const ApiError& error) {
        exchange->send(error_response(Dialect::openai, error));
      });
}

} // namespace mlx_flash::server
