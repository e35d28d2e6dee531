#include "server/api/openai_stream.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/routes.h"
#include "server/api/sse.h"

namespace mlx_flash::server {

OpenAiStream::OpenAiStream(
    std::shared_ptr<HttpExchange> exchange,
    Loop& loop,
    double keep_alive_seconds,
    std::function<double()> now)
    : exchange_(std::move(exchange)),
      life_(loop, keep_alive_seconds, std::move(now)) {}

std::shared_ptr<OpenAiStream> OpenAiStream::make(
    std::shared_ptr<HttpExchange> exchange,
    Loop& loop,
    double keep_alive_seconds,
    std::function<double()> now) {
  const std::shared_ptr<OpenAiStream> stream(new OpenAiStream(
      std::move(exchange), loop, keep_alive_seconds, std::move(now)));
  stream->life_.begin([weak = std::weak_ptr(stream)] {
    if (const auto self = weak.lock()) {
      self->write_text(sse_comment(progress_words(self->progress_)));
    }
  });
  return stream;
}

void OpenAiStream::write_text(std::string text) {
  if (begun_) {
    exchange_->write(std::move(text));
  } else {
    begun_ = true;
    exchange_->begin(sse_response(std::move(text)));
  }
  life_.wrote();
}

void OpenAiStream::write(const nlohmann::ordered_json& chunk) {
  write_text(sse_data(to_text(chunk)));
}

void OpenAiStream::set_progress(const PromptProgress& progress) {
  progress_ = progress;
}

void OpenAiStream::fail(const ApiError& error) {
  HttpResponse response = error_response(Dialect::openai, error);
  if (!begun_) {
    life_.stop();
    exchange_->send(std::move(response));
    return;
  }
  write_text(sse_data(response.body));
  end();
}

void OpenAiStream::finish() {
  write_text(sse_data("[DONE]"));
  end();
}

void OpenAiStream::end() {
  life_.stop();
  exchange_->end();
}

ChunkSink::ChunkSink(
    AnswerHead head,
    const char* object,
    const StreamWishes& wishes,
    size_t choices,
    std::shared_ptr<OpenAiStream> stream)
    : head_(std::move(head)),
      object_(object),
      wishes_(wishes),
      choices_(choices),
      stream_(std::move(stream)) {}

ChunkSink::~ChunkSink() = default;

ChunkSink::Json ChunkSink::make_chunk(Json choices) const {
  Json chunk = {
      {"id", head_.id},
      {"object", object_},
      {"created", head_.created},
      {"model", head_.model},
      {"choices", std::move(choices)},
  };
  if (wishes_.include_usage) {
    chunk["usage"] = nullptr; // until the last one
  }
  return chunk;
}

void ChunkSink::write(Json choice) {
  stream_->write(make_chunk(Json::array({std::move(choice)})));
}

void ChunkSink::on_progress(const PromptProgress& progress) {
  stream_->set_progress(progress);
  if (!wishes_.return_progress) {
    return;
  }
  if (progress.queue_position == 0 && !reading_since_) {
    reading_since_ = now_seconds();
  }
  Json chunk = make_chunk(Json::array({empty_choice(0)}));
  chunk["prompt_progress"] = progress_object(
      progress, reading_since_ ? now_seconds() - *reading_since_ : 0);
  stream_->write(chunk);
}

void ChunkSink::on_choice_end(size_t choice, const ChoiceEnd& end) {
  Json object = empty_choice(choice);
  object["finish_reason"] = finish_reason_word(end.reason);
  if (++ended_ < choices_) {
    write(std::move(object));
  } else {
    // The last one has the timings with it, which are not known yet.
    last_ =
        std::make_unique<Json>(make_chunk(Json::array({std::move(object)})));
  }
}

void ChunkSink::on_end(const Usage& usage, const Timings& timings) {
  Json last = std::move(*last_);
  if (wishes_.include_usage) {
    stream_->write(last);
    last = make_chunk(Json::array());
    last["usage"] = usage_object(usage);
  }
  last["timings"] = timings_object(usage, timings);
  stream_->write(last);
  stream_->finish();
}

void ChunkSink::on_error(const ApiError& error) {
  stream_->fail(error);
}

} // namespace mlx_flash::server
