// What rounding activations to 8 bits costs: the default precision against
// f32 on stories that the demo model has not seen.
#include <doctest/doctest.h>

#include <cmath>

#include "base/read_file.h"
#include "mlx_flash/engine.h"

using namespace mlx_flash;

namespace {

std::unique_ptr<Engine> open(const char* precision) {
  EngineOptions options;
  options.model = MLX_FLASH_SOURCE_DIR "/models/tiny-tales-moe";
  options.memory = "1GB";
  options.context_tokens = 512;
  options.precision = precision;
  return Engine::open(options);
}

std::vector<std::string> stories() {
  const std::string all = read_file(
      std::filesystem::path(MLX_FLASH_TEST_DATA) / "stories/held_out.txt");
  std::vector<std::string> result;
  size_t begin = 0;
  while (begin < all.size()) {
    const size_t end = std::min(all.find("\n\n", begin), all.size());
    result.push_back(all.substr(begin, end - begin));
    begin = end + 2;
  }
  return result;
}

std::vector<double> log_softmax(std::span<const float> logits) {
  double most = -INFINITY;
  for (const float logit : logits) {
    most = std::max(most, double{logit});
  }
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(logit - most);
  }
  std::vector<double> result;
  for (const float logit : logits) {
    result.push_back(logit - most - std::log(sum));
  }
  return result;
}

} // namespace

TEST_CASE("precision: int8 keeps the model's predictions") {
  const auto exact = open("f32");
  const auto rounded = open("int8");
  CHECK(exact->stats().precision == "f32");
  CHECK(rounded->stats().precision == "int8");
  const size_t vocab = exact->vocab_size();
  double divergence = 0; // KL(f32 || int8), nats
  double exact_loss = 0;
  double rounded_loss = 0;
  size_t same_best = 0;
  size_t positions = 0;
  for (const std::string& story : stories()) {
    const auto ids = exact->text().encode(story, true);
    const auto p_logits = exact->new_session()->extend(ids);
    const auto q_logits = rounded->new_session()->extend(ids);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto p = log_softmax(std::span(p_logits).subspan(i * vocab, vocab));
      const auto q = log_softmax(std::span(q_logits).subspan(i * vocab, vocab));
      size_t best_p = 0;
      size_t best_q = 0;
      for (size_t v = 0; v < vocab; ++v) {
        divergence += std::exp(p[v]) * (p[v] - q[v]);
        best_p = p[v] > p[best_p] ? v : best_p;
        best_q = q[v] > q[best_q] ? v : best_q;
      }
      exact_loss -= p[ids[i + 1]];
      rounded_loss -= q[ids[i + 1]];
      same_best += best_p == best_q ? 1 : 0;
      ++positions;
    }
  }
  const auto n = static_cast<double>(positions);
  const double perplexity = std::exp(exact_loss / n);
  const double rounded_perplexity = std::exp(rounded_loss / n);
  MESSAGE(
      positions,
      " positions: KL ",
      divergence / n,
      ", perplexity ",
      perplexity,
      " in f32 and ",
      rounded_perplexity,
      " in int8, the same best token at ",
      100 * static_cast<double>(same_best) / n,
      " %");
  CHECK(divergence / n <= 0.002);
  CHECK(std::abs(rounded_perplexity / perplexity - 1) <= 0.003);
}
