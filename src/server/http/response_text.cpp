#include "server/http/response_text.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <iterator>

namespace mlx_flash::server {

namespace {

const char* reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Other"; // a client must not read it
  }
}

// Not by strftime(), whose words are those of the user's language.
std::string http_date(std::time_t now) {
  constexpr std::array kDays = {
      "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths = {
      "Jan",
      "Feb",
      "Mar",
      "Apr",
      "May",
      "Jun",
      "Jul",
      "Aug",
      "Sep",
      "Oct",
      "Nov",
      "Dec"};
  std::tm time{};
  gmtime_r(&now, &time);
  return fmt::format(
      "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
      kDays[static_cast<size_t>(time.tm_wday)],
      time.tm_mday,
      kMonths[static_cast<size_t>(time.tm_mon)],
      time.tm_year + 1900,
      time.tm_hour,
      time.tm_min,
      time.tm_sec);
}

void append_header(
    std::string& text,
    std::string_view name,
    std::string_view value) {
  const auto append = [&](std::string_view part) {
    for (const char c : part) {
      if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
        text.push_back(c);
      }
    }
  };
  append(name);
  text += ": ";
  append(value);
  text += "\r\n";
}

} // namespace

std::string response_head(
    const HttpResponse& response,
    const ResponseForm& form) {
  std::string text = fmt::format(
      "HTTP/1.{} {} {}\r\n",
      form.http_1_1 ? 1 : 0,
      response.status,
      reason(response.status));
  append_header(text, "date", http_date(std::time(nullptr)));
  if (form.framing != Framing::none && !response.content_type.empty()) {
    append_header(text, "content-type", response.content_type);
  }
  for (const auto& [name, value] : response.headers) {
    append_header(text, name, value);
  }
  if (form.framing == Framing::length) {
    append_header(text, "content-length", fmt::to_string(response.body.size()));
  } else if (form.framing == Framing::chunked) {
    append_header(text, "transfer-encoding", "chunked");
  }
  // Each version has its own default.
  if (form.keep_alive != form.http_1_1) {
    append_header(text, "connection", form.keep_alive ? "keep-alive" : "close");
  }
  return text + "\r\n";
}

void append_chunk(std::string& text, std::string_view part) {
  if (part.empty()) {
    return;
  }
  fmt::format_to(std::back_inserter(text), "{:x}\r\n", part.size());
  text += part;
  text += "\r\n";
}

std::string closing_response(const HttpResponse& response) {
  return response_head(response, {.keep_alive = false}) + response.body;
}

} // namespace mlx_flash::server
