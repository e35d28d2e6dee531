#include <doctest/doctest.h>

#include "server/api/test_own_routes.h"

using namespace mlx_flash;
using namespace mlx_flash::server;

using Json = nlohmann::ordered_json;

TEST_CASE("own routes: a text's tokens, and their text again") {
  OwnRoutesServer server;
  server.load();
  const Json there = server.post("/tokenize", {{"content", "Hi<|im_end|>"}});
  CHECK(there == Json({{"tokens", {72, 105, 257}}, {"count", 3}}));
  const Json back = server.post("/detokenize", {{"tokens", there["tokens"]}});
  CHECK(back == Json({{"content", "Hi<|im_end|>"}}));
}

TEST_CASE("own routes: pieces that are no text come as bytes") {
  OwnRoutesServer server;
  server.load();
  const Json body = server.post(
      "/tokenize", {{"content", "a\xc3\xa9"}, {"with_pieces", true}});
  CHECK(
      body["tokens"] ==
      Json::parse(R"([{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]},
                      {"id": 169, "piece": [169]}])"));
}

TEST_CASE("own routes: a text of too many tokens is refused, and says so") {
  OwnRoutesServer server;
  server.load();
  server.options.limits.json_values = 10;
  for (const bool pieces : {false, true}) {
    const auto ask = [&](size_t tokens, int status) {
      return server.post(
          "/tokenize",
          {{"prompt", std::string(tokens, 'a')}, {"with_pieces", pieces}},
          status);
    };
    CHECK(ask(10, 200)["count"] == 10);
    const Json error = ask(11, 400)["error"];
    CHECK(error["param"] == "prompt");
    CHECK(
        error["message"] ==
        "prompt has 11 tokens, of which no more than 10 are told at once; send "
        "the text in parts, or start the server with a larger "
        "--max-json-values");
  }
}

TEST_CASE("own routes: half a character does not break an answer") {
  OwnRoutesServer server;
  server.load();
  const Json body = server.post("/detokenize", {{"tokens", {97, 0xc3}}});
  CHECK(body["content"] == "a\xef\xbf\xbd");
}

TEST_CASE("own routes: a text has three names, of which one is used") {
  OwnRoutesServer server;
  server.load();
  for (const char* name : {"content", "text", "prompt"}) {
    CHECK(server.post("/tokenize", {{name, "ab"}})["count"] == 2);
  }
  CHECK(
      server.refusal("/tokenize", {{"content", "a"}, {"text", "a"}}) ==
      "text: text and content are the same: send one");
  CHECK(
      server.refusal("/tokenize", Json::object()) ==
      "content: content is missing");
}

TEST_CASE("own routes: fields of texts that cannot be honoured are refused") {
  OwnRoutesServer server;
  server.load();
  CHECK(
      server.refusal("/tokenize", {{"content", "a"}, {"parse_special", false}})
          .find("parse_special: ") == 0);
  CHECK(
      server.refusal(
          "/tokenize", {{"content", "a"}, {"parse_special", true}}) ==
      "accepted");
  CHECK(
      server.refusal("/tokenize", {{"content", "a"}, {"pieces", true}}) ==
      "pieces: pieces is not a field that is known here");
  CHECK(
      server.refusal("/tokenize", {{"content", 7}}) ==
      "content: content must be a string, not number");
  CHECK(
      server.refusal("/detokenize", Json::object()) ==
      "tokens: tokens is missing");
}

TEST_CASE("own routes: ids that no token has are refused by their place") {
  OwnRoutesServer server;
  server.load();
  const Json body = server.post("/detokenize", {{"tokens", {97, 262}}}, 400);
  CHECK(body["error"]["param"] == "tokens[1]");
  CHECK(
      body["error"]["message"] == "tokens[1] must be an integer from 0 to 261");
}

TEST_CASE("own routes: what can be no token's id does not wait for a model") {
  OwnRoutesServer server;
  server.scripted.hold_loading();
  for (const Json& bad :
       {Json(uint64_t{1} << 32),
        Json(-1),
        Json(1.5),
        Json("a"),
        Json(1e300),
        Json(nullptr)}) {
    CAPTURE(bad);
    CHECK(
        server.refusal("/detokenize", {{"tokens", {97, bad}}}) ==
        "tokens[1]: tokens[1] must be an integer from 0 to 4294967295");
  }
}

TEST_CASE("own routes: /apply-template shows the prompt of a chat request") {
  OwnRoutesServer server;
  server.load();
  const Json body = server.post(
      "/apply-template",
      {{"messages",
        {{{"role", "system"}, {"content", "Be brief."}},
         {{"role", "user"}, {"content", "Hi"}}}},
       {"temperature", 0.5},
       {"chat_template_kwargs", {{"enable_thinking", false}}}});
  CHECK(
      body["prompt"] ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>"
      "\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  CHECK(server.scripted.requests().empty()); // nothing was generated
}

TEST_CASE("own routes: tools are part of the prompt") {
  OwnRoutesServer server;
  server.load();
  const Json body = server.post(
      "/apply-template",
      {{"messages", {{{"role", "user"}, {"content", "Hi"}}}},
       {"tools",
        {{{"type", "function"}, {"function", {{"name", "look_up"}}}}}}});
  CHECK(body["prompt"].get<std::string>().find("look_up") != std::string::npos);
}

TEST_CASE(
    "own routes: /apply-template reads chat requests as strictly as they are") {
  OwnRoutesServer server;
  server.load();
  CHECK(
      server.refusal("/apply-template", Json::object()) ==
      "messages: messages is missing");
  CHECK(
      server
          .refusal(
              "/apply-template",
              {{"messages", {{{"role", "user"}, {"content", "Hi"}}}},
               {"temperature", 99}})
          .find("temperature: ") == 0);
}

TEST_CASE(
    "own routes: a text waits for its model, and takes another if named") {
  OwnRoutesServer server;
  server.scripted.hold_loading();
  const auto exchange =
      server.ask("POST", "/tokenize", R"({"content": "a", "model": "other"})");
  server.loop.run();
  CHECK_FALSE(exchange->ended);
  server.scripted.release_loading();
  REQUIRE(server.loop.run_until([&] { return exchange->ended; }));
  CHECK(server.get("/status")["model"] == "other");
  CHECK(
      server.refusal("/tokenize", {{"content", "a"}, {"model", "nothing"}})
          .find("model: ") == 0);
}

TEST_CASE("own routes: a text that nobody has time for is refused for now") {
  OwnRoutesServer server;
  server.load();
  server.workers.refuse = true;
  const auto exchange = server.ask("POST", "/tokenize", R"({"content": "a"})");
  REQUIRE(server.loop.run_until([&] { return exchange->ended; }));
  CHECK(exchange->head.status == 429);
  CHECK(exchange->header("retry-after") == "1");
}
