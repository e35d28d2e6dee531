// A response as the bytes of HTTP/1.1 or 1.0. When they are sent is up to
// http_answer.h and connection.cpp.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "server/http/http.h"

namespace mlx_flash::server {

// How a client knows where a body ends.
enum class Framing {
  none, // it has no body
  length, // that of response.body
  chunked,
  close, // with the connection
};

struct ResponseForm {
  Framing framing = Framing::length;
  bool http_1_1 = true;
  bool keep_alive = true;
};

// The status line and the headers, with the empty line behind them. Bytes in a
// header that would end it are left out.
std::string response_head(
    const HttpResponse& response,
    const ResponseForm& form);

// Nothing for an empty part, which would end the body.
void append_chunk(std::string& text, std::string_view part);

inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// A response that is sent whole, before the connection is closed.
std::string closing_response(const HttpResponse& response);

} // namespace mlx_flash::server
