// own_text_routes() of own_routes.h: what the model makes of a text, as
// llama.cpp's server has these routes.
#include <fmt/format.h>

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

using TextWork = std::function<Json(const Text& text)>;

void send_error(HttpExchange& exchange, const ApiError& error) {
  exchange.send(error_response(Dialect::openai, error));
}

void send_result(
    HttpExchange& exchange,
    const ModelLease& lease,
    const TextWork& work) {
  try {
    exchange.send(json_response(work(lease.engine().text())));
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

// The text under one of its three names.
std::string read_content(Fields& fields) {
  const char* found = nullptr;
  for (const char* name : {"content", "text", "prompt"}) {
    if (fields.has(name) && found) {
      fields.reject(name, fmt::format("and {} are the same: send one", found));
    }
    found = fields.has(name) ? name : found;
  }
  return fields.required_text(found ? found : "content");
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

void tokenize(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const Json body = read_own_body(context, *exchange);
  Fields fields(body);
  const std::string model = fields.text("model", kMostNameBytes).value_or("");
  const std::string content = read_content(fields);
  const bool special = fields.boolean("add_special").value_or(false);
  const bool pieces = fields.boolean("with_pieces").value_or(false);
  fields.refuse(
      "parse_special",
      "cannot be false: marks in a text are always read as such",
      {"true"});
  fields.done();
  answer_with_text(
      context, exchange, model, [content, special, pieces](const Text& text) {
        Json tokens = Json::array();
        for (const TokenId id : text.encode(content, special)) {
          tokens.push_back(
              pieces ? piece_object(id, text.bytes(id)) : Json(id));
        }
        const size_t count = tokens.size();
        return Json{{"tokens", std::move(tokens)}, {"count", count}};
      });
}

std::vector<TokenId> read_ids(const Json& values, uint64_t vocab_size) {
  std::vector<TokenId> ids;
  for (const Json& value : values) {
    const bool good =
        value.is_number_unsigned() && value.get<uint64_t>() < vocab_size;
    if (!good) {
      const std::string name = fmt::format("tokens[{}]", ids.size());
      throw invalid_field(
          name,
          fmt::format(
              "{} must be an integer from 0 to {}", name, vocab_size - 1));
    }
    ids.push_back(value.get<TokenId>());
  }
  return ids;
}

void detokenize(
    ApiContext& context,
    std::shared_ptr<HttpExchange> exchange,
    const std::string&) {
  const Json body = read_own_body(context, *exchange);
  Fields fields(body);
  const std::string model = fields.text("model", kMostNameBytes).value_or("");
  // How many there may be is bounded for the body already.
  Json tokens = fields.required_array("tokens", SIZE_MAX);
  fields.done();
  answer_with_text(
      context, exchange, model, [tokens = std::move(tokens)](const Text& text) {
        return Json{
            {"content",
             text.decode(read_ids(tokens, text.vocab_size()), false)}};
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
        return Json{
            {"prompt", text.render_template(values, local_now_seconds())}};
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
