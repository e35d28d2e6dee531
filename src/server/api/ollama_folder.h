// What a model's folder says about the model without loading it, for lists of
// models: config.json, the chat template, the sizes of the weight files.
// Folders come from the server's options, never from a request.
//
// What is missing or malformed is left empty: a model that cannot be read is
// still listed, and says what is wrong when it is loaded.
//
// Thread rule: pure functions; they read files.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mlx_flash::server {

struct ModelFolder {
  std::string model_type{};
  std::string quantization{}; // "4-bit", or a type such as "BF16"
  uint64_t context_length = 0; // the model's own limit
  uint64_t block_count = 0;
  uint64_t embedding_length = 0;
  uint64_t vocab_size = 0;
  uint64_t expert_count = 0;
  uint64_t expert_used_count = 0;

  uint64_t weight_bytes = 0;
  // When a weight file was last written.
  std::chrono::system_clock::time_point modified{};
  // "xxh3:" and a hash of config.json and of the names and sizes of the weight
  // files. It tells models apart; it is no checksum of the weights.
  std::string digest{};
};

ModelFolder read_model_folder(const std::filesystem::path& folder);

// As the engine finds it; empty for a model without.
std::string read_chat_template(const std::filesystem::path& folder);

} // namespace mlx_flash::server
