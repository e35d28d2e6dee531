// From the bytes of a connection to a request: its headers at once, when all
// of them are there, and then its body. Whatever a client sends, it takes no
// more memory than its limits say, and what comes out does not depend on how
// the bytes were cut. It knows no sockets and no time; these are in
// connection.cpp.
//
// Thread rule: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "server/http/http.h"

namespace mlx_flash::server {

// Why a request cannot be read, as an answer says it.
struct ReadFailure {
  int status = 0;
  std::string message;
};

inline constexpr size_t kMostHeaders = 100; // of a request

class RequestReader {
 public:
  // `headers`: the request line or headers are not all there yet; `body`: they
  // are. After `failed` nothing more can be read from the connection.
  enum class State { headers, body, done, failed };

  RequestReader(uint64_t most_header_bytes, uint64_t most_body_bytes);
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // Takes what it can use from the beginning of `input`. What it leaves it
  // needs again, longer; or, when it is done, it belongs to the next request.
  State read(std::string& input);

  const ReadFailure& failure() const; // once it has failed

  // As far as it is known. Its id, peer and time are left to others.
  HttpRequest& request();

  // Of a request whose headers are there:
  bool http_1_1() const; // else 1.0
  bool keep_alive() const; // the client can use the connection again
  bool expects_continue() const; // it waits to be asked for the body

 private:
  class Parser;
  const std::unique_ptr<Parser> parser_;
};

} // namespace mlx_flash::server
