// Server-sent events as text (https://html.spec.whatwg.org/multipage/
// server-sent-events.html): what OpenAI's and Anthropic's streams consist of.
// Who writes them when is up to each dialect's sink.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "server/http/http.h"

namespace mlx_flash::server {

// An event without a name. `data` is JSON on one line, or a word such as
// "[DONE]"; line ends in it are sent so that they arrive as "\n".
std::string sse_data(std::string_view data);
// The same with a name, which is of one line.
std::string sse_event(std::string_view name, std::string_view data);
// What clients skip: it shows them that the connection lives. `text` is of one
// line and may be empty.
std::string sse_comment(std::string_view text);

// What a stream begins with: kept by no cache, held back by no proxy.
HttpResponse sse_response(std::string first_part = {});

} // namespace mlx_flash::server
