#include "server/http/request_reader.h"

#include <fmt/format.h>

#include <boost/beast/http/basic_parser.hpp>

#include <algorithm>

#include "server/api_error.h"
#include "server/http/uri.h"

namespace mlx_flash::server {

namespace {

namespace beast = boost::beast;

using Name = beast::http::field;
using Code = beast::error_code;

constexpr char kTlsHandshake = '\x16';
// "0\r\n\r\n": as long as a chunked body goes on, this much is still to come.
// Beast asserts that it is there when it has seen the last chunk's line.
constexpr size_t kLeastChunkedRest = 5;

std::string_view view(beast::string_view text) {
  return {text.data(), text.size()};
}

bool begins_a_method(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

} // namespace

class RequestReader::Parser : public beast::http::basic_parser<true> {
 public:
  Parser(uint64_t most_header_bytes, uint64_t most_body_bytes)
      : most_header_bytes_(most_header_bytes),
        most_body_bytes_(most_body_bytes) {
    eager(true);
    body_limit(boost::none); // on_body() and finish_headers() keep ours
    header_limit(UINT32_MAX); // so does find_header_end()
  }

  State read(std::string& input);

  State state = State::headers;
  ReadFailure failure;
  HttpRequest request;
  bool http_1_1 = false;
  bool expects_continue = false;

 private:
  void read_headers(std::string& input);
  void read_body(std::string& input);
  size_t find_header_end(const std::string& input);
  void finish_headers();
  void check_encoding();
  void check_host(const std::string& authority);
  size_t count(std::string_view name) const;
  void fail(int status, std::string message);
  void fail(const Code& error);
  size_t on_body(beast::string_view part, Code& error);

  void on_request_impl(
      beast::http::verb,
      beast::string_view method,
      beast::string_view target,
      int version,
      Code&) override {
    request.method = view(method);
    target_ = view(target);
    http_1_1 = version == 11;
  }
  void on_response_impl(int, beast::string_view, int, Code&) override {}
  void on_field_impl(
      Name,
      beast::string_view name,
      beast::string_view value,
      Code& error) override {
    // Trailers, behind a body, are read and forgotten.
    if (state == State::headers && request.headers.size() == kMostHeaders) {
      error = beast::http::error::header_limit;
    } else if (state == State::headers) {
      request.headers.emplace_back(to_lower(view(name)), view(value));
    }
  }
  void on_header_impl(Code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, Code&) override {}
  size_t on_body_impl(beast::string_view part, Code& error) override {
    return on_body(part, error);
  }
  void on_chunk_header_impl(uint64_t size, beast::string_view, Code& error)
      override {
    if (size > most_body_bytes_ - request.body.size()) {
      error = beast::http::error::body_limit;
    }
  }
  size_t on_chunk_body_impl(uint64_t, beast::string_view part, Code& error)
      override {
    return on_body(part, error);
  }
  void on_finish_impl(Code&) override {}

  const uint64_t most_header_bytes_;
  const uint64_t most_body_bytes_;
  size_t scanned_ = 0; // of the headers, for their end
  std::string target_;
};

RequestReader::State RequestReader::Parser::read(std::string& input) {
  if (state == State::headers) {
    read_headers(input);
  }
  if (state == State::body) {
    read_body(input);
  }
  return state;
}

void RequestReader::Parser::fail(int status, std::string message) {
  state = State::failed;
  failure = {status, std::move(message)};
}

void RequestReader::Parser::fail(const Code& error) {
  if (error == beast::http::error::body_limit) {
    fail(
        413,
        fmt::format(
            "the body is larger than the {} bytes that this server takes",
            most_body_bytes_));
  } else if (error == beast::http::error::header_limit) {
    fail(431, fmt::format("there are more than {} headers", kMostHeaders));
  } else {
    fail(400, "this is no valid HTTP request: " + error.message());
  }
}

// The number of bytes up to the end of the headers; 0 while it is not there.
size_t RequestReader::Parser::find_header_end(const std::string& input) {
  const size_t end = std::min<size_t>(input.size(), most_header_bytes_);
  for (; scanned_ < end; ++scanned_) {
    if (input[scanned_] != '\n') {
      continue;
    }
    if (scanned_ == 0 || input[scanned_ - 1] != '\r') {
      fail(400, "a line of the request ends in LF alone; it must be CR LF");
      return 0;
    }
    if (scanned_ >= 3 && input[scanned_ - 2] == '\n') {
      return scanned_ + 1;
    }
  }
  if (input.size() >= most_header_bytes_) {
    fail(
        431,
        fmt::format(
            "the headers are larger than the {} bytes that this server takes",
            most_header_bytes_));
  }
  return 0;
}

void RequestReader::Parser::read_headers(std::string& input) {
  // An empty line before a request is forgiven (RFC 9112, 2.2).
  while (scanned_ == 0 && input.starts_with("\r\n")) {
    input.erase(0, 2);
  }
  if (input.empty() || input == "\r") {
    return;
  }
  if (input.front() == kTlsHandshake) {
    fail(400, "this server speaks http, not https");
    return;
  }
  if (!begins_a_method(input.front())) {
    fail(400, "this is no HTTP request");
    return;
  }
  const size_t end = find_header_end(input);
  if (end == 0) {
    return;
  }
  Code error;
  put(boost::asio::buffer(input.data(), end), error);
  input.erase(0, end);
  if (error) {
    fail(error);
    return;
  }
  state = State::body;
  request.headers.shrink_to_fit();
  try {
    finish_headers();
  } catch (const ApiError& wrong) {
    fail(400, wrong.what());
  }
  std::string().swap(target_); // the path and the query are known
  if (state == State::body && is_done()) {
    state = State::done;
  }
}

size_t RequestReader::Parser::count(std::string_view name) const {
  return static_cast<size_t>(std::count_if(
      request.headers.begin(), request.headers.end(), [&](const auto& header) {
        return header.first == name;
      }));
}

void RequestReader::Parser::finish_headers() {
  // Beast's has the same name.
  const Target target = server::parse_target(target_);
  if (target.path == "*" && request.method != "OPTIONS") {
    fail(400, "the target '*' is for OPTIONS alone");
    return;
  }
  request.path = target.path;
  request.query = target.query;
  check_host(target.authority);
  check_encoding();
  if (state == State::body && content_length() > most_body_bytes_) {
    fail(beast::http::error::body_limit);
  }
}

void RequestReader::Parser::check_host(const std::string& authority) {
  const size_t hosts = count("host");
  if (hosts > 1 || (http_1_1 && hosts == 0)) {
    fail(400, "a request must have one Host header");
    return;
  }
  if (hosts == 1 && !parse_authority(request.header("host"))) {
    fail(400, "the Host header names no host");
    return;
  }
  if (!authority.empty()) {
    // It counts in place of the header (RFC 9112, 3.2.2).
    std::erase_if(request.headers, [](const auto& header) {
      return header.first == "host";
    });
    request.headers.emplace_back("host", authority);
  }
}

// What would let two programs see different ends of a body is refused.
void RequestReader::Parser::check_encoding() {
  const size_t encodings = count("transfer-encoding");
  if (encodings > 0 && count("content-length") > 0) {
    fail(400, "a request has Content-Length or Transfer-Encoding, not both");
  } else if (encodings > 0 && !http_1_1) {
    fail(400, "HTTP/1.0 has no Transfer-Encoding");
  } else if (
      encodings > 0 &&
      (encodings > 1 ||
       to_lower(request.header("transfer-encoding")) != "chunked")) {
    fail(501, "the only Transfer-Encoding that this server takes is chunked");
  }
  const std::string_view expected = request.header("expect");
  if (expected.empty() || state == State::failed) {
    return;
  }
  if (to_lower(expected) != "100-continue") {
    fail(417, "the only Expect that this server knows is 100-continue");
    return;
  }
  expects_continue = http_1_1;
}

size_t RequestReader::Parser::on_body(beast::string_view part, Code& error) {
  if (part.size() > most_body_bytes_ - request.body.size()) {
    error = beast::http::error::body_limit;
    return 0;
  }
  request.body.append(part.data(), part.size());
  return part.size();
}

void RequestReader::Parser::read_body(std::string& input) {
  if (input.empty() || (chunked() && input.size() < kLeastChunkedRest)) {
    return;
  }
  Code error;
  const size_t used =
      put(boost::asio::buffer(input.data(), input.size()), error);
  input.erase(0, used);
  if (error == beast::http::error::need_more) {
    error = {};
  }
  if (error) {
    fail(error);
  } else if (is_done()) {
    state = State::done;
  } else if (input.size() >= most_header_bytes_) {
    // A line between chunks, or trailers.
    fail(431, "the body's trailers or chunk extensions are too large");
  }
}

RequestReader::RequestReader(
    uint64_t most_header_bytes,
    uint64_t most_body_bytes)
    : parser_(std::make_unique<Parser>(most_header_bytes, most_body_bytes)) {}

RequestReader::~RequestReader() = default;

RequestReader::State RequestReader::read(std::string& input) {
  return parser_->read(input);
}

const ReadFailure& RequestReader::failure() const {
  return parser_->failure;
}

HttpRequest& RequestReader::request() {
  return parser_->request;
}

bool RequestReader::http_1_1() const {
  return parser_->http_1_1;
}

bool RequestReader::keep_alive() const {
  return parser_->keep_alive();
}

bool RequestReader::expects_continue() const {
  return parser_->expects_continue;
}

} // namespace mlx_flash::server
