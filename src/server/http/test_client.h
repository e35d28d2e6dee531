// For tests: a client that sends what it is told, byte for byte, and reads
// what comes. It knows as much of HTTP as is needed to tell answers apart.
//
// Thread rule: one thread.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace mlx_flash::server {

// The connection is waited for this long before a test gives up.
inline constexpr int kPatienceMs = 20000;

struct TestAnswer {
  int status = 0; // 0: the connection ended instead
  std::string head;
  std::string body;

  // Empty without it. `name` is in lower case, as our server writes it.
  std::string header(const std::string& name) const {
    const size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) {
      return {};
    }
    const size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class TestClient {
 public:
  // `receive_bytes` is the kernel's buffer for what was not read; 0: as usual.
  explicit TestClient(uint16_t port, bool ipv6 = false, int receive_bytes = 0) {
    std::signal(SIGPIPE, SIG_IGN);
    socket_ = ::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    if (receive_bytes > 0) {
      ::setsockopt(
          socket_,
          SOL_SOCKET,
          SO_RCVBUF,
          &receive_bytes,
          sizeof(receive_bytes));
    }
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    v6.sin6_addr = in6addr_loopback;
    const void* address = &v4;
    if (ipv6) {
      address = &v6;
    }
    connected_ = ::connect(
                     socket_,
                     static_cast<const sockaddr*>(address),
                     ipv6 ? sizeof(v6) : sizeof(v4)) == 0;
  }
  ~TestClient() {
    close();
  }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const {
    return connected_;
  }

  // False when the other side does not take it.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), 0);
      if (n <= 0) {
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  void get(const std::string& path, const std::string& headers = {}) {
    send("GET " + path + " HTTP/1.1\r\nhost: localhost\r\n" + headers + "\r\n");
  }

  void post(
      const std::string& path,
      const std::string& body,
      const std::string& headers = {}) {
    send(
        "POST " + path + " HTTP/1.1\r\nhost: localhost\r\ncontent-length: " +
        std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }

  // Waits. False at the end of the connection.
  bool read_some() {
    if (!readable(kPatienceMs)) {
      throw std::runtime_error("nothing came from the server");
    }
    char bytes[4096];
    const ssize_t n = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (n > 0) {
      input_.append(bytes, static_cast<size_t>(n));
    }
    return n > 0;
  }

  bool readable(int milliseconds) {
    pollfd wanted{socket_, POLLIN, 0};
    return ::poll(&wanted, 1, milliseconds) > 0;
  }

  // Everything up to and with `text`; empty if the connection ends before.
  std::string read_through(std::string_view text) {
    size_t at = 0;
    while ((at = input_.find(text)) == std::string::npos) {
      if (!read_some()) {
        return {};
      }
    }
    return take(at + text.size());
  }

  // The next answer with all of its body; `head_only`: to a HEAD.
  TestAnswer read_answer(bool head_only = false) {
    TestAnswer answer;
    answer.head = read_through("\r\n\r\n");
    if (answer.head.size() < 12) {
      return answer;
    }
    answer.status = std::atoi(answer.head.c_str() + 9);
    const std::string length = answer.header("content-length");
    if (head_only || answer.status < 200 || answer.status == 204) {
      return answer;
    }
    if (!answer.header("transfer-encoding").empty()) {
      answer.body = read_chunks();
    } else if (!length.empty()) {
      answer.body = read_bytes(std::stoul(length));
    } else {
      answer.body = read_rest();
    }
    return answer;
  }

  // Without its framing.
  std::string read_chunk() {
    const std::string line = read_through("\r\n");
    const std::string part = read_bytes(std::stoul("0" + line, nullptr, 16));
    read_bytes(2);
    return part;
  }

  // Until the end of the connection.
  std::string read_rest() {
    while (read_some()) {
    }
    return take(input_.size());
  }

  bool ended() {
    return read_rest().empty();
  }

  void end_sending() {
    ::shutdown(socket_, SHUT_WR);
  }

  void close() {
    if (socket_ >= 0) {
      ::close(std::exchange(socket_, -1));
    }
  }

 private:
  std::string take(size_t size) {
    std::string taken = input_.substr(0, size);
    input_.erase(0, size);
    return taken;
  }

  std::string read_bytes(size_t size) {
    while (input_.size() < size && read_some()) {
    }
    return take(size);
  }

  std::string read_chunks() {
    std::string body;
    for (std::string part; !(part = read_chunk()).empty();) {
      body += part;
    }
    return body;
  }

  int socket_ = -1;
  bool connected_ = false;
  std::string input_; // that was read and not taken
};

} // namespace mlx_flash::server
