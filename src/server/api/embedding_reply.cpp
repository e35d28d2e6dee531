#include "server/api/embedding_reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <utility>

#include "server/api/start_answer.h"

namespace mlx_flash::server {

void EmbeddingReply::on_embedding(size_t input, std::span<const float> values) {
  if (embeddings_.size() <= input) {
    embeddings_.resize(input + 1);
  }
  embeddings_[input] =
      form_ == Form::base64 ? base64_string(values) : number_array(values);
}

void EmbeddingReply::on_end(const EmbeddingsEnd& end) {
  HttpResponse response;
  response.body = body_(embeddings_, end);
  response.any_size = true; // embeddings_bytes()
  exchange_->send(std::move(response));
}

void EmbeddingReply::on_error(const ApiError& error) {
  exchange_->send(error_response(dialect_, error));
}

std::string number_array(std::span<const float> values) {
  std::string text = "[";
  for (const float value : values) {
    if (text.size() > 1) {
      text += ',';
    }
    fmt::format_to(std::back_inserter(text), "{}", value);
  }
  return text + "]";
}

std::string base64_string(std::span<const float> values) {
  constexpr const char* kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<uint8_t> bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) {
      bytes.push_back(static_cast<uint8_t>(bits >> shift));
    }
  }
  std::string text = "\"";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? bytes[i + k] : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      text += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text + "\"";
}

void start_embeddings(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    EmbeddingJob job,
    const std::shared_ptr<EmbeddingSink>& sink) {
  const auto running = std::make_shared<RunningJobs>();
  exchange->on_disconnect([running] { running->cancel(); });
  job.request_id = exchange->request().id;
  try {
    running->add(context.generations.embed(
        std::move(job), exchange->request().received, sink));
  } catch (...) {
    context.loop.post([sink, error = to_api_error(std::current_exception())] {
      sink->on_error(error);
    });
  }
}

} // namespace mlx_flash::server
