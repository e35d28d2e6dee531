#include "server/api/answer_collector.h"

#include <iterator>
#include <utility>

namespace mlx_flash::server {

AnswerCollector::AnswerCollector(
    size_t choices,
    const std::shared_ptr<HttpExchange>& exchange,
    std::function<void(CollectedAnswer)> done,
    std::function<void(const ApiError&)> failed)
    : held_(exchange, HeldLogprobs::kAsText),
      done_(std::move(done)),
      failed_(std::move(failed)) {
  answer_.choices.resize(choices);
}

void AnswerCollector::on_scoring(uint64_t tokens, uint64_t candidates) {
  held_.expect(tokens, candidates);
}

void AnswerCollector::on_start(const JobStart& start) {
  answer_.start = {start.model, start.prompt_tokens, {}};
}

void AnswerCollector::on_part(size_t choice, AnswerPart part) {
  CollectedChoice& to = answer_.choices.at(choice);
  switch (part.kind) {
    case AnswerPart::Kind::reasoning:
      to.reasoning += part.text;
      break;
    case AnswerPart::Kind::content:
      held_.add(part.tokens);
      to.content += part.text;
      to.tokens.insert(
          to.tokens.end(),
          std::make_move_iterator(part.tokens.begin()),
          std::make_move_iterator(part.tokens.end()));
      break;
    case AnswerPart::Kind::tool_call:
      to.call_places.push_back(to.content.size());
      to.tool_calls.push_back(
          {std::move(part.call_id), std::move(part.call_name), {}});
      break;
    case AnswerPart::Kind::arguments:
      to.tool_calls.at(part.call).arguments += part.text;
      break;
  }
}

void AnswerCollector::on_choice_end(size_t choice, const ChoiceEnd& end) {
  answer_.choices.at(choice).end = end;
}

void AnswerCollector::on_end(const Usage& usage, const Timings& timings) {
  answer_.usage = usage;
  answer_.timings = timings;
  done_(std::move(answer_));
}

void AnswerCollector::on_error(const ApiError& error) {
  failed_(error);
}

} // namespace mlx_flash::server
