// What a server is told when it starts. Every limit has a flag of its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mlx_flash/engine.h"

namespace mlx_flash::server {

struct ServerLimits {
  // Connections and their requests.
  uint64_t connections = 256;
  uint64_t header_bytes = 16u << 10;
  uint64_t body_bytes = 8u << 20;
  uint64_t all_body_bytes = 8u << 20; // of all requests in memory
  // Times must be more than 0 where nothing else is said of 0.
  double header_seconds = 10; // for all of a request's headers
  double body_seconds = 60; // for all of its body
  double idle_seconds = 75; // between two requests of a connection
  double write_seconds = 60; // without any progress of a slow reader
  uint64_t unsent_bytes = 1u << 20; // that may wait for a slow reader
  uint64_t all_unsent_bytes = 8u << 20; // for all of them together

  // Bodies.
  uint64_t json_depth = 64;
  uint64_t json_values = 1u << 16; // of all kinds, and members' names
  uint64_t messages = 4096;
  uint64_t tools = 256;
  uint64_t choices = 8;
  uint64_t max_tokens = 1u << 20;
  uint64_t stop_strings = 16; // OpenAI's four are checked there
  uint64_t stop_string_bytes = 1024;
  uint64_t logit_bias = 1024; // entries
  uint64_t schema_bytes = 64u << 10; // of a schema, a regex or a grammar
  uint64_t grammar_cost = 1'000'000; // steps of compiling one
  uint64_t embedding_inputs = 256;

  // Work.
  uint64_t parallel = 16; // answers in progress
  uint64_t queue = 64; // requests that wait
  double request_seconds = 0; // for a whole answer; 0: no limit
  double drain_seconds = 30; // for answers, when stopping; 0: they end
  uint64_t stored_responses = 1024; // of /v1/responses
  uint64_t stored_response_bytes = 16u << 20;
  // Tokens of answers, for conversations that go on.
  uint64_t replayed_bytes = 16u << 20;
};

struct ServedModel {
  std::string name; // what clients call it
  std::vector<std::string> aliases{};
  EngineOptions engine;
  EmbeddingForm embedding{}; // as read_embedding_form() has it
};

struct ServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080; // 0: any free one
  std::string api_key{}; // empty: none is asked for
  // Beside loopback names and the address itself: of Host headers, and of
  // Origin headers, such as "https://chat.example.org".
  std::vector<std::string> allowed_hosts{};
  std::vector<std::string> allowed_origins{};

  std::vector<ServedModel> models; // the first one is loaded at the start
  // Seconds without a request after which the model is let go; 0: never.
  double keep_seconds = 0;

  ServerLimits limits{};
  double slow_seconds = 30; // requests above it are logged; 0: none
  bool log_prompts = false;
  double keep_alive_seconds = 5; // between signs of life while a client waits

  std::string version = "unknown"; // of the program, for /status and metrics

  // Must be given: Engine::open, or what opens a scripted engine in tests,
  // which are linked without the real one.
  std::function<std::unique_ptr<Engine>(const EngineOptions&)> open_engine{};
};

} // namespace mlx_flash::server
