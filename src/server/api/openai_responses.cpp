// OpenAI's Responses API: its routes. What a request says is in
// openai_responses_request.h, what an answer consists of in
// openai_responses_output.h.
#include <mutex>
#include <nlohmann/json.hpp>

#include "server/api/openai_responses_request.h"
#include "server/api/openai_responses_stored.h"
#include "server/api/openai_responses_stream.h"
#include "server/api/routes.h"
#include "server/api/start_answer.h"

namespace mlx_flash::server {

namespace {

using Handle = decltype(Route::handle);

// One for all routes, made when the first of them is asked for: only then are
// its limits known.
class SharedStore {
 public:
  std::shared_ptr<ResponseStore> get(const ServerLimits& limits) {
    std::call_once(once_, [&] {
      store_ = std::make_shared<ResponseStore>(
          limits.stored_responses, limits.stored_response_bytes);
    });
    return store_;
  }

 private:
  std::once_flag once_;
  std::shared_ptr<ResponseStore> store_;
};

void create_response(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    const std::shared_ptr<ResponseStore>& store) {
  const ServerLimits& limits = context.options.limits;
  const HttpRequest& request = exchange->request();
  ResponseRequest wanted = read_response_request(
      parse_body(request.body, json_limits(limits)), limits, *store);
  wanted.job.request_id = request.id;
  const auto sink = wanted.stream
      ? make_response_stream(
            exchange,
            wanted,
            store,
            context.loop,
            context.options.keep_alive_seconds)
      : make_whole_response(exchange, wanted, store);
  start_answer(context, exchange, std::move(wanted.job), sink);
}

Route make_route(const char* method, const char* path, Handle handle) {
  constexpr bool kSlow = true; // bodies, pages of items
  return {method, path, Dialect::openai, std::move(handle), kSlow};
}

} // namespace

std::vector<Route> openai_responses_routes() {
  const auto shared = std::make_shared<SharedStore>();
  // For those that answer at once.
  const auto with_store = [shared](auto answer) {
    return [shared, answer](
               ApiContext& context,
               std::shared_ptr<HttpExchange> exchange,
               const std::string& id) {
      ResponseStore& store = *shared->get(context.options.limits);
      exchange->send(answer(store, id, exchange->request().query));
    };
  };
  return {
      make_route(
          "POST",
          "/v1/responses",
          [shared](
              ApiContext& context,
              std::shared_ptr<HttpExchange> exchange,
              const std::string&) {
            create_response(
                context, exchange, shared->get(context.options.limits));
          }),
      make_route("GET", "/v1/responses/{id}", with_store(get_response)),
      make_route(
          "GET",
          "/v1/responses/{id}/input_items",
          with_store(list_input_items)),
      make_route(
          "DELETE",
          "/v1/responses/{id}",
          with_store(
              [](ResponseStore& store,
                 const std::string& id,
                 const std::string&) { return delete_response(store, id); })),
      make_route(
          "POST",
          "/v1/responses/{id}/cancel",
          with_store(
              [](ResponseStore& store,
                 const std::string& id,
                 const std::string&) { return cancel_response(store, id); })),
  };
}

} // namespace mlx_flash::server
