// Makes the answer to POST /v1/responses of the parts in which it is generated:
// the items of its output, the events of its stream (https://platform.openai.
// com/docs/api-reference/responses-streaming), and the Response object. Who
// sends them is openai_responses.cpp.
//
// Thread rule: belongs to one answer.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/api/openai_responses_request.h"
#include "server/api/response_store.h"
#include "server/job.h"

namespace mlx_flash::server {

class ResponseWriter {
 public:
  // An event's type, and itself as JSON text.
  using OnEvent =
      std::function<void(const std::string& type, const std::string& json)>;

  // Without `on_event` there is nothing but the object in the end.
  ResponseWriter(const ResponseRequest& request, OnEvent on_event);
  ~ResponseWriter();

  // In this order: create() once, queued() and in_progress() as often as
  // there is need, and then parts up to the end. `model` is its name, which
  // may become known between them only.
  void create(const std::string& model, bool queued);
  void queued();
  void in_progress(const std::string& model);
  void add(AnswerPart part);
  void end(const ChoiceEnd& end);

  // One of both is the last call. The result is the response as it is kept,
  // without its input.
  StoredResponse finish(const Usage& usage);
  void fail(const ApiError& error);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

} // namespace mlx_flash::server
