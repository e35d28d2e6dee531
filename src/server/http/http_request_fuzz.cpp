// Any bytes as requests of one connection, whole and cut into small pieces:
// what is read must be the same, and within the limits.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "server/http/request_reader.h"
#include "server/http/uri.h"

using namespace mlx_flash::server;

namespace {

using State = RequestReader::State;

constexpr uint64_t kHeaderBytes = 512;
constexpr uint64_t kBodyBytes = 256;
constexpr int kTooLong = 431;
constexpr size_t kLeastRest = 5; // of a chunked body, as the reader has it

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check(const HttpRequest& request) {
  require(request.body.size() <= kBodyBytes);
  require(request.path.starts_with('/') || request.path == "*");
  for (const char c : request.path) {
    require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
  for (const auto& [name, value] : request.headers) {
    require(name == to_lower(name));
    require(value.find_first_of("\r\n") == std::string::npos);
    require(value.find('\0') == std::string::npos);
  }
  if (const auto host = request.header("host"); !host.empty()) {
    require(parse_authority(host).has_value());
  }
}

struct Reading {
  std::vector<HttpRequest> requests;
  State last = State::headers; // of what is behind them
  int status = 0;
  size_t waiting = 0; // bytes that were not taken
};

// `step` bytes at a time; the bytes of many requests may come at once.
Reading read(std::string_view bytes, size_t step) {
  Reading reading;
  std::string input;
  auto reader = std::make_unique<RequestReader>(kHeaderBytes, kBodyBytes);
  while (!bytes.empty()) {
    input += bytes.substr(0, step);
    bytes.remove_prefix(std::min(step, bytes.size()));
    while ((reading.last = reader->read(input)) == State::done) {
      check(reader->request());
      (void)reader->keep_alive();
      reading.requests.push_back(std::move(reader->request()));
      reader = std::make_unique<RequestReader>(kHeaderBytes, kBodyBytes);
    }
    if (reading.last == State::failed) {
      reading.status = reader->failure().status;
      require(reading.status >= 400 && !reader->failure().message.empty());
      break;
    }
    // What waits is never more than what may come at once.
    require(input.size() < kHeaderBytes);
  }
  reading.waiting = input.size();
  return reading;
}

// A long line that is there at once is read; and before an error in a chunked
// body is told, a few bytes more may be waited for.
bool may_differ(const Reading& whole, const Reading& parts) {
  return whole.status == kTooLong || parts.status == kTooLong ||
      (whole.last == State::failed && parts.last == State::body &&
       parts.waiting < kLeastRest);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Reading whole = read(bytes, SIZE_MAX);
  for (const size_t step : {1, 7}) {
    const Reading parts = read(bytes, step);
    if (may_differ(whole, parts)) {
      continue;
    }
    require(parts.last == whole.last && parts.status == whole.status);
    require(parts.requests.size() == whole.requests.size());
    for (size_t i = 0; i < parts.requests.size(); ++i) {
      require(parts.requests[i].body == whole.requests[i].body);
      require(parts.requests[i].headers == whole.requests[i].headers);
    }
  }
  return 0;
}
