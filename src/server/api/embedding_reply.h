// The answer to a request for embeddings: each is written down when it comes,
// and all are sent at the end, in the order of their texts.
//
// Thread rule: as EmbeddingSink.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/api/context.h"
#include "server/api/routes.h"
#include "server/embedding_job.h"

namespace mlx_flash::server {

class EmbeddingReply : public EmbeddingSink {
 public:
  enum class Form { numbers, base64 };
  // The body, of embeddings that are JSON values already.
  using Body = std::function<std::string(
      const std::vector<std::string>& embeddings,
      const EmbeddingsEnd& end)>;

  // The dialect is that of errors.
  EmbeddingReply(
      std::shared_ptr<HttpExchange> exchange,
      Dialect dialect,
      Form form,
      Body body)
      : exchange_(std::move(exchange)),
        dialect_(dialect),
        form_(form),
        body_(std::move(body)) {}

  void on_embedding(size_t input, std::span<const float> values) override;
  void on_end(const EmbeddingsEnd& end) override;
  void on_error(const ApiError& error) override;

 private:
  const std::shared_ptr<HttpExchange> exchange_;
  const Dialect dialect_;
  const Form form_;
  const Body body_;
  std::vector<std::string> embeddings_;
};

// Numbers as short as they can be without being others; and the bytes of
// 32-bit floats, least significant first.
std::string number_array(std::span<const float> values);
std::string base64_string(std::span<const float> values);

// As start_answer() has it.
void start_embeddings(
    ApiContext& context,
    const std::shared_ptr<HttpExchange>& exchange,
    EmbeddingJob job,
    const std::shared_ptr<EmbeddingSink>& sink);

} // namespace mlx_flash::server
