#include "server/api/sse.h"

#include <utility>

namespace mlx_flash::server {

namespace {

// The length of the line end at `at`, 0 where there is none. A client takes
// each of the three for one.
size_t line_end(std::string_view text, size_t at) {
  if (text[at] == '\r') {
    return text.substr(at, 2) == "\r\n" ? 2 : 1;
  }
  return text[at] == '\n' ? 1 : 0;
}

void append_data(std::string& out, std::string_view data) {
  out += "data: ";
  for (size_t i = 0; i < data.size(); ++i) {
    if (const size_t skipped = line_end(data, i)) {
      out += "\ndata: ";
      i += skipped - 1;
    } else {
      out += data[i];
    }
  }
  out += "\n\n";
}

} // namespace

std::string sse_data(std::string_view data) {
  std::string out;
  out.reserve(data.size() + 8);
  append_data(out, data);
  return out;
}

std::string sse_event(std::string_view name, std::string_view data) {
  std::string out;
  out.reserve(name.size() + data.size() + 16);
  out.append("event: ").append(name).append("\n");
  append_data(out, data);
  return out;
}

std::string sse_comment(std::string_view text) {
  std::string out(":");
  if (!text.empty()) {
    out.append(" ").append(text);
  }
  return out.append("\n\n");
}

HttpResponse sse_response(std::string first_part) {
  HttpResponse response;
  response.content_type = "text/event-stream";
  response.headers = {
      {"cache-control", "no-cache"},
      // nginx and others would wait until a buffer is full.
      {"x-accel-buffering", "no"},
  };
  response.body = std::move(first_part);
  return response;
}

} // namespace mlx_flash::server
