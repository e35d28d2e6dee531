#include "server/api/openai_responses_stored.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "server/api_error.h"

using namespace mlx_flash::server;
using Json = nlohmann::ordered_json;

namespace {

// "resp_1", which is the answer to `items` items.
void fill(ResponseStore& store, size_t items) {
  StoredResponse response{"resp_1", R"({"id":"resp_1"})", {}, {}};
  for (size_t i = 0; i < items; ++i) {
    const std::string id = "msg_" + std::to_string(i);
    response.input.push_back(std::make_shared<const StoredItem>(
        StoredItem{id, Json{{"id", id}}.dump()}));
  }
  store.put(std::move(response));
}

Json list(ResponseStore& store, const std::string& query) {
  return Json::parse(list_input_items(store, "resp_1", query).body);
}

std::string ids(const Json& page) {
  std::string text;
  for (const Json& item : page["data"]) {
    text += (text.empty() ? "" : " ") + item["id"].get<std::string>();
  }
  return text;
}

template <typename Function>
std::string refusal(const Function& function) {
  try {
    function();
  } catch (const ApiError& error) {
    return std::to_string(http_status(error.kind())) + " " + error.param;
  }
  return "";
}

} // namespace

TEST_CASE("stored responses: one can be read until it is deleted") {
  ResponseStore store(10, 1u << 20);
  fill(store, 1);
  CHECK(get_response(store, "resp_1", "").body == R"({"id":"resp_1"})");
  CHECK(
      get_response(
          store, "resp_1", "include%5B%5D=message.output_text.logprobs")
          .status == 200);
  CHECK(
      Json::parse(delete_response(store, "resp_1").body) ==
      Json::parse(
          R"({"id": "resp_1", "object": "response", "deleted": true})"));
  CHECK(
      refusal([&] { get_response(store, "resp_1", ""); }) == "404 response_id");
  CHECK(
      refusal([&] { delete_response(store, "resp_1"); }) == "404 response_id");
  CHECK(refusal([&] {
          list_input_items(store, "resp_1", "");
        }) == "404 response_id");
}

TEST_CASE("stored responses: what is over is not streamed again") {
  ResponseStore store(10, 1u << 20);
  fill(store, 1);
  CHECK(refusal([&] {
          get_response(store, "resp_1", "stream=true");
        }) == "400 stream");
  CHECK(get_response(store, "resp_1", "stream=false").status == 200);
  CHECK(refusal([&] {
          get_response(store, "resp_1", "a=1&stream=false");
        }) == "400 a");
}

TEST_CASE("stored responses: nothing can be cancelled") {
  ResponseStore store(10, 1u << 20);
  fill(store, 1);
  CHECK(refusal([&] { cancel_response(store, "resp_1"); }) == "400 ");
  CHECK(
      refusal([&] { cancel_response(store, "resp_2"); }) == "404 response_id");
}

TEST_CASE("stored responses: input comes page by page, the newest first") {
  ResponseStore store(10, 1u << 20);
  fill(store, 5);
  const Json all = list(store, "");
  CHECK(ids(all) == "msg_4 msg_3 msg_2 msg_1 msg_0");
  CHECK(all["object"] == "list");
  CHECK(all["first_id"] == "msg_4");
  CHECK(all["last_id"] == "msg_0");
  CHECK(all["has_more"] == false);

  const Json first = list(store, "order=asc&limit=2");
  CHECK(ids(first) == "msg_0 msg_1");
  CHECK(first["has_more"] == true);
  const Json second = list(store, "order=asc&limit=2&after=msg_1");
  CHECK(ids(second) == "msg_2 msg_3");
  CHECK(ids(list(store, "limit=100&after=msg%5f3")) == "msg_2 msg_1 msg_0");
  const Json none = list(store, "after=msg_0");
  CHECK(none["data"].empty());
  CHECK(none["first_id"] == "");
}

TEST_CASE("stored responses: a page has twenty items, and a hundred at most") {
  ResponseStore store(10, 1u << 20);
  fill(store, 120);
  CHECK(list(store, "")["data"].size() == 20);
  CHECK(list(store, "limit=100")["data"].size() == 100);
  for (const char* bad :
       {"limit=0",
        "limit=101",
        "limit=-1",
        "limit=",
        "limit=1x",
        "limit=99999999999999999999"}) {
    CHECK(refusal([&] { list(store, bad); }) == "400 limit");
  }
  CHECK(refusal([&] { list(store, "order=up"); }) == "400 order");
  CHECK(refusal([&] { list(store, "after=msg_999"); }) == "400 after");
  CHECK(refusal([&] { list(store, "before=msg_1"); }) == "400 before");
}
