#include "server/api/openai_responses_stream.h"

#include <utility>

#include "server/api/held_logprobs.h"
#include "server/api/openai_common.h"
#include "server/api/openai_responses_output.h"
#include "server/api/routes.h"
#include "server/api/sign_of_life.h"
#include "server/api/sse.h"

namespace mlx_flash::server {

namespace {

// Where finished responses go.
class Keeper {
 public:
  Keeper(const ResponseRequest& request, std::shared_ptr<ResponseStore> store)
      : input_(request.input),
        store_(request.store ? std::move(store) : nullptr) {}

  void keep(StoredResponse response) {
    if (store_) {
      response.input = std::move(input_);
      store_->put(std::move(response));
    }
  }

 private:
  std::vector<ItemPtr> input_;
  const std::shared_ptr<ResponseStore> store_;
};

class ResponseStream : public AnswerSink,
                       public std::enable_shared_from_this<ResponseStream> {
 public:
  ResponseStream(
      std::shared_ptr<HttpExchange> exchange,
      const ResponseRequest& request,
      std::shared_ptr<ResponseStore> store,
      Loop& loop,
      double silence_seconds,
      std::function<double()> now)
      : exchange_(std::move(exchange)),
        model_(request.job.model),
        keeper_(request, std::move(store)),
        writer_(
            request,
            [this](const std::string& type, const std::string& json) {
              pending_ += sse_event(type, json);
            }),
        sign_of_life_(loop, silence_seconds, std::move(now)) {}

  // The client waits from here on.
  void wait() {
    sign_of_life_.begin([weak = weak_from_this()] {
      if (const auto self = weak.lock()) {
        self->say_something();
      }
    });
  }

  void on_start(const JobStart& start) override {
    started_ = true;
    model_ = start.model;
    if (!begun_) {
      writer_.create(model_, false);
    }
    writer_.in_progress(model_);
    flush();
  }

  void on_progress(const PromptProgress& progress) override {
    progress_ = progress; // told with the next sign of life
  }

  void on_part(size_t, AnswerPart part) override {
    answering_ = true;
    if (part.kind == AnswerPart::Kind::content) {
      held_.add(part.tokens); // others' are not told
    }
    writer_.add(std::move(part));
    flush();
  }

  void on_choice_end(size_t, const ChoiceEnd& end) override {
    writer_.end(end);
  }

  void on_end(const Usage& usage, const Timings&) override {
    sign_of_life_.stop();
    // Before the client can ask for it.
    keeper_.keep(writer_.finish(usage));
    flush();
    exchange_->end();
  }

  void on_error(const ApiError& error) override {
    sign_of_life_.stop();
    if (!begun_) {
      exchange_->send(error_response(Dialect::openai, error));
      return;
    }
    writer_.fail(error);
    flush();
    exchange_->end();
  }

 private:
  // A comment for people, and before the first item an event too: there are
  // clients that wait for those alone.
  void say_something() {
    pending_ += sse_comment(answering_ ? "" : progress_words(progress_));
    if (!begun_) {
      writer_.create(model_, true);
    } else if (started_ && !answering_) {
      writer_.in_progress(model_);
    } else if (!started_) {
      writer_.queued();
    }
    flush();
  }

  void flush() {
    if (pending_.empty()) {
      return;
    }
    std::string part = std::exchange(pending_, {});
    if (std::exchange(begun_, true)) {
      exchange_->write(std::move(part));
    } else {
      exchange_->begin(sse_response(std::move(part)));
    }
    sign_of_life_.wrote();
  }

  const std::shared_ptr<HttpExchange> exchange_;
  std::string model_; // as the request names it, until its name is known
  std::string pending_; // to be written
  bool begun_ = false;
  bool started_ = false;
  bool answering_ = false;
  PromptProgress progress_;
  Keeper keeper_;
  ResponseWriter writer_;
  HeldLogprobs held_{exchange_, HeldLogprobs::kAsValues};
  SignOfLife sign_of_life_;
};

class WholeResponse : public AnswerSink {
 public:
  WholeResponse(
      std::shared_ptr<HttpExchange> exchange,
      const ResponseRequest& request,
      std::shared_ptr<ResponseStore> store)
      : exchange_(std::move(exchange)),
        keeper_(request, std::move(store)),
        writer_(request, nullptr) {}

  void on_start(const JobStart& start) override {
    writer_.create(start.model, false);
  }
  void on_part(size_t, AnswerPart part) override {
    if (part.kind == AnswerPart::Kind::content) {
      held_.add(part.tokens); // others' are not told
    }
    writer_.add(std::move(part));
  }
  void on_choice_end(size_t, const ChoiceEnd& end) override {
    writer_.end(end);
  }
  void on_end(const Usage& usage, const Timings&) override {
    StoredResponse stored = writer_.finish(usage);
    HttpResponse response;
    response.body = stored.json;
    keeper_.keep(std::move(stored));
    exchange_->send(std::move(response));
  }
  void on_error(const ApiError& error) override {
    exchange_->send(error_response(Dialect::openai, error));
  }

 private:
  const std::shared_ptr<HttpExchange> exchange_;
  Keeper keeper_;
  ResponseWriter writer_;
  HeldLogprobs held_{exchange_, HeldLogprobs::kAsValues};
};

} // namespace

std::shared_ptr<AnswerSink> make_response_stream(
    std::shared_ptr<HttpExchange> exchange,
    const ResponseRequest& request,
    std::shared_ptr<ResponseStore> store,
    Loop& loop,
    double silence_seconds,
    std::function<double()> now) {
  const auto stream = std::make_shared<ResponseStream>(
      std::move(exchange),
      request,
      std::move(store),
      loop,
      silence_seconds,
      std::move(now));
  stream->wait();
  return stream;
}

std::shared_ptr<AnswerSink> make_whole_response(
    std::shared_ptr<HttpExchange> exchange,
    const ResponseRequest& request,
    std::shared_ptr<ResponseStore> store) {
  return std::make_shared<WholeResponse>(
      std::move(exchange), request, std::move(store));
}

} // namespace mlx_flash::server
