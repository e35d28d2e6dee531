// Sends the answer to POST /v1/responses, event by event or in one piece, and
// keeps it. A stream's status is sent with its first event, so that what goes
// wrong before is a proper error.
//
// Thread rule: any thread; what is made is called on the loop, as any
// AnswerSink.
#pragma once

#include <functional>
#include <memory>

#include "base/clock.h"
#include "server/api/openai_responses_request.h"
#include "server/api/response_store.h"
#include "server/http/http.h"
#include "server/job.h"
#include "server/loop.h"

namespace mlx_flash::server {

// After `silence_seconds` without an event a sign of life is sent.
std::shared_ptr<AnswerSink> make_response_stream(
    std::shared_ptr<HttpExchange> exchange,
    const ResponseRequest& request,
    std::shared_ptr<ResponseStore> store,
    Loop& loop,
    double silence_seconds,
    std::function<double()> now = now_seconds);

std::shared_ptr<AnswerSink> make_whole_response(
    std::shared_ptr<HttpExchange> exchange,
    const ResponseRequest& request,
    std::shared_ptr<ResponseStore> store);

} // namespace mlx_flash::server
