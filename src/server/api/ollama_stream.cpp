#include "server/api/ollama_stream.h"

#include <utility>

#include "server/api/routes.h"

namespace mlx_flash::server {

OllamaStream::OllamaStream(
    std::shared_ptr<HttpExchange> exchange,
    std::shared_ptr<OllamaReply> reply,
    Loop& loop,
    double silence_seconds,
    std::function<double()> now)
    : exchange_(std::move(exchange)),
      reply_(std::move(reply)),
      sign_of_life_(loop, silence_seconds, std::move(now)) {}

void OllamaStream::wait() {
  sign_of_life_.begin([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->write_line(self->reply_->sign_of_life(self->progress_));
    }
  });
}

void OllamaStream::write_line(std::string line) {
  line += '\n';
  if (std::exchange(begun_, true)) {
    exchange_->write(std::move(line));
  } else {
    HttpResponse response;
    response.content_type = "application/x-ndjson";
    response.headers = {
        {"cache-control", "no-store"}, {"x-accel-buffering", "no"}};
    response.body = std::move(line);
    exchange_->begin(std::move(response));
  }
  sign_of_life_.wrote();
}

void OllamaStream::write_call() {
  if (call_) {
    write_line(reply_->tool_call(*call_, calls_++));
    call_.reset();
  }
}

void OllamaStream::on_progress(const PromptProgress& progress) {
  progress_ = progress; // sent with the next sign of life
}

void OllamaStream::on_part(size_t, AnswerPart part) {
  progress_.reset();
  if (part.kind == AnswerPart::Kind::arguments) {
    if (call_) {
      call_->arguments += part.text;
    }
    return;
  }
  write_call();
  switch (part.kind) {
    case AnswerPart::Kind::reasoning:
      write_line(reply_->thinking(part.text));
      break;
    case AnswerPart::Kind::content:
      write_line(reply_->content(part.text, part.tokens));
      break;
    case AnswerPart::Kind::tool_call:
      call_ = ToolCall{std::move(part.call_id), std::move(part.call_name), {}};
      break;
    case AnswerPart::Kind::arguments:
      break;
  }
}

void OllamaStream::on_choice_end(size_t, const ChoiceEnd& end) {
  write_call();
  end_ = end;
}

void OllamaStream::on_end(const Usage& usage, const Timings& timings) {
  sign_of_life_.stop();
  write_line(reply_->end(end_, usage, timings));
  exchange_->end();
}

void OllamaStream::on_error(const ApiError& error) {
  sign_of_life_.stop();
  HttpResponse response = error_response(Dialect::ollama, error);
  if (begun_) {
    write_line(std::move(response.body));
    exchange_->end();
  } else {
    exchange_->send(std::move(response));
  }
}

std::shared_ptr<AnswerSink> make_whole_ollama_answer(
    std::shared_ptr<HttpExchange> exchange,
    std::shared_ptr<OllamaReply> reply) {
  return std::make_shared<AnswerCollector>(
      1,
      exchange,
      [exchange, reply](CollectedAnswer answer) {
        HttpResponse response;
        response.body = reply->whole(answer);
        exchange->send(std::move(response));
      },
      [exchange](const ApiError& error) {
        exchange->send(error_response(Dialect::ollama, error));
      });
}

} // namespace mlx_flash::server
