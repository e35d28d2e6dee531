// own_text_routes() of own_routes.h: what the model makes of a text, as
// llama.cpp's server has these routes.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/utf8.h"
#include "server/api/openai_chat.h"
#include "server/api/own_routes.h"
#include "server/fields.h"

namespace mlx_flash::server {

using Json = nlohmann::ordered_json;

namespace {

using TextWork = std::function<HttpResponse(const Text& text)>;

void send_error(HttpExchange& exchange, const ApiError& error) {
  exchange.send(error_response(Dialect::openai, error));
}

void send_result(
    HttpExchange& exchange,
    const ModelLease& lease,
    const TextWork& work) {
  try {
    exchange.send(work(lease.engine().text()));
  } catch (...) {
    send_error(exchange, to_api_error(std::current_exception()));
  }
}

// Answers with what `work` makes of the model's text side, which a worker
// does once the model is there. An empty name means the one that is loaded.
void answer_with_text(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    const std::string& model,
    TextWork work) {
  Workers& workers = context.workers;
  const Task withdraw = context.models.acquire(
      model,
      [&workers, exchange, work = std::move(work)](
          const std::shared_ptr<ModelLease>& lease) {
        if (!workers.post([=] { send_result(*exchange, *lease, work); })) {
          send_error(
              *exchange,
              ApiError(
                  ApiErrorKind::rate_limited,
                  "too many texts wait for their tokens; try again later"));
        }
      },
      [exchange](const ApiError& error) { send_error(*exchange, error); });
  exchange->on_disconnect(withdraw);
}

struct Content {
  std::string field;
  std::string text;
};

// The text under one of its three names.
Content read_content(Fields& fields) {
  const char* found = nullptr;
  for (const char* name : {"content", "text", "prompt"}) {
    if (fields.has(name) && found) {
      fields.reject(name, fmt::format("and {} are the same: send one", found));
    }
    found = fields.has(name) ? name : found;
  }
  const std::string field = found ? found : "content";
  return {field, fields.required_text(field.c_str())};
}

// As text where it is; a token may be a part of a character.
Json piece_object(TokenId id, const std::string& piece) {
  Json text = piece;
  if (!is_utf8(piece)) {
    text = Json::array();
    for (const char c : piece) {
      text.push_back(static_cast<uint8_t>(c));
    }
  }
  return {{"id", id}, {"piece", std::move(text)}};
}

void check_count(size_t tokens, size_t most, const std::string& field) {
  if (tokens > most) {
    throw invalid_field(
        field,
        fmt::format(
            "{} has {} tokens, of which no more than {} are told at once; send "
            "the text in parts, or start the server with a larger "
            "--max-json-values",
            field,
            tokens,
            most));
  }
}

// As text at once: as JSON values they would take many times as much.
HttpResponse tokens_response(
    const Text& text,
    const std::vector<TokenId>& ids,
    bool pieces) {
  HttpResponse response;
  response.body = R"({"tokens":[)";
  for (const TokenId& id : ids) {
    response.body += &id == ids.data() ? "" : ",";
    response.body +=
        pieces ? piece_object(id, text.bytes(id)).dump() : std::to_string(id);
  }
  response.body += fmt::format(R"(],"count":{}}})", ids.size());
  return response;
}

void tokenize(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const Json body = read_own_body(context, *exchange);
  Fields fields(body);
  const std::string model = fields.text("model", kMostNameBytes).value_or("");
  const Content content = read_content(fields);
  const bool special = fields.boolean("add_special").value_or(false);
  const bool pieces = fields.boolean("with_pieces").value_or(false);
  fields.refuse(
      "parse_special",
      "cannot be false: marks in a text are always read as such",
      {"true"});
  fields.done();
  const size_t most = context.options.limits.json_values;
  answer_with_text(context, exchange, model, [=](const Text& text) {
    const auto ids = text.encode(content.text, special);
    check_count(ids.size(), most, content.field);
    return tokens_response(text, ids, pieces);
  });
}

[[noreturn]] void reject_id(size_t place, uint64_t last) {
  const std::string name = fmt::format("tokens[{}]", place);
  throw invalid_field(
      name, fmt::format("{} must be an integer from 0 to {}", name, last));
}

// Before there is a model: JSON values take many times as much, and may have to
// wait for it.
std::vector<TokenId> read_ids(const Json& values) {
  std::vector<TokenId> ids;
  ids.reserve(values.size());
  for (const Json& value : values) {
    constexpr uint64_t kLast = std::numeric_limits<TokenId>::max();
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kLast) {
      reject_id(ids.size(), kLast);
    }
    ids.push_back(value.get<TokenId>());
  }
  return ids;
}

void check_ids(const std::vector<TokenId>& ids, uint64_t vocab_size) {
  const auto wrong = std::find_if(
      ids.begin(), ids.end(), [&](TokenId id) { return id >= vocab_size; });
  if (wrong != ids.end()) {
    reject_id(static_cast<size_t>(wrong - ids.begin()), vocab_size - 1);
  }
}

void detokenize(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const Json body = read_own_body(context, *exchange);
  Fields fields(body);
  const std::string model = fields.text("model", kMostNameBytes).value_or("");
  // How many there may be is bounded for the body already.
  const auto ids = read_ids(fields.required_array("tokens", SIZE_MAX));
  fields.done();
  answer_with_text(context, exchange, model, [ids](const Text& text) {
    check_ids(ids, text.vocab_size());
    return json_response({{"content", text.decode(ids, false)}});
  });
}

// Takes what a chat request has, so that its body can be sent as it is.
void apply_template(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  ChatWishes wishes;
  const Job job = read_chat_request(
      read_own_body(context, *exchange), context.options.limits, wishes);
  answer_with_text(
      context,
      exchange,
      job.model,
      [values = template_context(
           std::get<Conversation>(job.prompt),
           json_limits(context.options.limits))](const Text& text) {
        return json_response(
            {{"prompt", text.render_template(values, local_now_seconds())}});
      });
}

} // namespace

std::vector<Route> own_text_routes() {
  return {
      {"POST", "/tokenize", Dialect::openai, tokenize, true},
      {"POST", "/detokenize", Dialect::openai, detokenize, true},
      {"POST", "/apply-template", Dialect::openai, apply_template, true},
  };
}

} // namespace mlx_flash::server
