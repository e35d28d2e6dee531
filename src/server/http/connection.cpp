#include "server/http/connection.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "server/api_error.h"
#include "server/http/accepted_socket.h"
#include "server/http/http_answer.h"
#include "server/http/request_intake.h"
#include "server/http/response_text.h"

namespace mlx_flash::server {

namespace {

namespace asio = boost::asio;

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

template <typename T>
using Coroutine = asio::awaitable<T>;

constexpr double kNever = 9e9; // seconds
// For a client that still sends, to read the answer before the connection is
// reset under it.
constexpr double kLingerSeconds = 2;

// A moment of now_seconds(), which is the same clock.
Clock::time_point at(double seconds) {
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(std::min(seconds, kNever))));
}

Clock::time_point after(double seconds) {
  return at(now_seconds() + seconds);
}

// Owns the descriptor, also if it throws.
tcp::socket adopt(asio::io_context& io, const Accepted& accepted) {
  tcp::socket socket(io);
  boost::system::error_code error;
  socket.assign(
      accepted.ipv6 ? tcp::v6() : tcp::v4(), accepted.descriptor, error);
  if (error) {
    ::close(accepted.descriptor);
    throw boost::system::system_error(error);
  }
  set_up_socket(accepted.descriptor);
  return socket;
}

// Three coroutines: one reads all the time, so that it sees when the client
// goes; one writes; and one, which waits for both, decides.
class TcpConnection : public Connection,
                      public std::enable_shared_from_this<TcpConnection> {
 public:
  TcpConnection(ConnectionShare& share, const Accepted& accepted, bool refused)
      : share_(share),
        limits_(share.limits),
        peer_(accepted.peer),
        refused_(refused),
        socket_(adopt(share.io, accepted)),
        changed_(share.io),
        room_(share.io),
        output_(share.io) {}

  void start() override {
    run(read_input());
    run(write_output());
    run(refused_ ? refuse() : serve());
  }

  std::optional<double> idle_since() const override {
    const bool idle = intake_ && !intake_->begun() && input_.empty();
    return idle ? std::optional(awaited_since_) : std::nullopt;
  }

  void drain() override {
    draining_ = true;
    if (answer_) {
      answer_->forbid_keep_alive();
    }
    changed_.cancel();
  }

  void close() override {
    if (std::exchange(closed_, true)) {
      return;
    }
    boost::system::error_code ignored;
    socket_.close(ignored);
    changed_.cancel();
    room_.cancel();
    output_.cancel();
    if (answer_) {
      answer_->disconnect();
    }
    share_.closed(this);
  }

 private:
  void run(Coroutine<void> coroutine);
  Coroutine<void> read_input();
  Coroutine<void> write_output();
  Coroutine<void> serve();
  Coroutine<void> refuse();
  Coroutine<bool> read_request(double idle_seconds);
  Coroutine<bool> answer_request();
  Coroutine<void> say_goodbye();

  HttpRequest& request();
  bool accept_body();
  void fail(const ReadFailure& failure);
  void respond(const HttpResponse& response);
  void begin_answer();
  void put(const std::string& bytes);
  bool lost() const;

  bool unsent() const {
    return writing_ || !out_.empty();
  }
  Clock::time_point write_deadline() const {
    return unsent() ? stalls_ : Clock::time_point::max();
  }
  bool stalled() const {
    return Clock::now() >= write_deadline();
  }
  bool input_full() const {
    return input_.size() >= limits_.header_bytes;
  }

  // Until it is cancelled or the time has come. What is waited for is looked
  // at before and after: all is one thread, so nothing is missed between.
  static Coroutine<void> wait(
      asio::steady_timer& timer,
      Clock::time_point end) {
    timer.expires_at(end);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  ConnectionShare& share_;
  const ServerLimits& limits_;
  const std::string peer_;
  const bool refused_;
  tcp::socket socket_;
  asio::steady_timer changed_; // something that the third must look at
  asio::steady_timer room_; // in the input
  asio::steady_timer output_; // there is some

  std::string input_; // that was not taken yet
  bool input_ended_ = false;
  bool discarding_ = false; // what comes is of no interest any more

  std::string out_; // that the writer has not begun with
  bool writing_ = false;
  bool write_failed_ = false;
  Clock::time_point stalls_{}; // if no byte is taken until then

  std::optional<RequestIntake> intake_; // of the request that is awaited
  double awaited_since_ = 0; // now_seconds()
  std::shared_ptr<HttpAnswer> answer_;
  bool answered_last_ = false; // and the client may not have read it
  bool draining_ = false;
  bool closed_ = false;
};

void TcpConnection::run(Coroutine<void> coroutine) {
  const auto on_end = [self = shared_from_this()](std::exception_ptr error) {
    if (error) {
      log::warn("[server] a connection failed: {}", to_api_error(error).what());
      self->close();
    }
  };
  asio::co_spawn(share_.io, std::move(coroutine), on_end);
}

Coroutine<void> TcpConnection::read_input() {
  std::array<char, kConnectionReadBytes> bytes;
  while (!closed_) {
    if (input_full()) {
      co_await wait(room_, Clock::time_point::max());
      continue;
    }
    const size_t room = limits_.header_bytes - input_.size();
    const auto [error, size] = co_await socket_.async_read_some(
        asio::buffer(bytes.data(), std::min(bytes.size(), room)),
        asio::as_tuple(asio::use_awaitable));
    if (!discarding_) {
      // At once, because a string that grows takes up to twice as much.
      input_.reserve(limits_.header_bytes);
      input_.append(bytes.data(), size);
    }
    input_ended_ = error.failed();
    changed_.cancel();
    if (input_ended_) {
      co_return;
    }
  }
}

Coroutine<void> TcpConnection::write_output() {
  std::string sending;
  while (!closed_) {
    if (out_.empty()) {
      writing_ = false;
      changed_.cancel();
      co_await wait(output_, Clock::time_point::max());
      continue;
    }
    writing_ = true;
    sending.swap(out_);
    for (size_t done = 0; done < sending.size();) {
      const auto [error, size] = co_await socket_.async_write_some(
          asio::buffer(sending.data() + done, sending.size() - done),
          asio::as_tuple(asio::use_awaitable));
      if (error.failed()) {
        write_failed_ = true;
        changed_.cancel();
        co_return;
      }
      done += size;
      stalls_ = after(limits_.write_seconds);
      if (answer_) {
        answer_->sent(size);
      }
    }
    if (sending.capacity() > kConnectionKeptBytes) {
      std::string().swap(sending);
    }
    sending.clear();
  }
}

void TcpConnection::put(const std::string& bytes) {
  if (bytes.empty()) {
    return;
  }
  if (!unsent()) {
    stalls_ = after(limits_.write_seconds);
  }
  out_ += bytes;
  output_.cancel();
}

Coroutine<void> TcpConnection::serve() {
  // Who has connected and says nothing gets no more time than for headers.
  double idle_seconds = limits_.header_seconds;
  while (co_await read_request(idle_seconds)) {
    if (!co_await answer_request()) {
      break;
    }
    idle_seconds = limits_.idle_seconds;
  }
  co_await say_goodbye();
  close();
}

Coroutine<void> TcpConnection::refuse() {
  fail({503, "too many connections; try again"});
  co_await say_goodbye();
  close();
}

// False when there is no further one.
Coroutine<bool> TcpConnection::read_request(double idle_seconds) {
  using Step = RequestIntake::Step;
  awaited_since_ = now_seconds();
  intake_.emplace(limits_, share_.body_bytes, awaited_since_ + idle_seconds);
  if (input_.empty()) {
    std::string().swap(input_); // an assignment would keep its memory
  }
  for (;;) {
    const Step step = intake_->step(input_, now_seconds());
    room_.cancel();
    if (step == Step::done) {
      co_return true;
    }
    if (step == Step::failed) {
      fail(intake_->failure());
      co_return false;
    }
    if (step == Step::headers) {
      if (!accept_body()) {
        co_return false;
      }
      continue;
    }
    if (input_ended_ || closed_ || (draining_ && !intake_->begun())) {
      co_return false;
    }
    co_await wait(changed_, at(intake_->deadline()));
  }
}

// As far as it is known.
HttpRequest& TcpConnection::request() {
  HttpRequest& request = intake_->reader().request();
  if (request.id.empty()) {
    request.id = share_.next_id();
    request.peer = peer_;
  }
  return request;
}

// False if the request was answered without.
bool TcpConnection::accept_body() {
  if (const auto refusal = share_.service.refuse_early(request())) {
    respond(*refusal);
    return false;
  }
  if (intake_->reader().expects_continue() && request().body.empty()) {
    put("HTTP/1.1 100 Continue\r\n\r\n");
  }
  return true;
}

void TcpConnection::fail(const ReadFailure& failure) {
  if (failure.message.empty()) {
    return;
  }
  static const HttpRequest unknown;
  HttpResponse response = share_.service.explain(
      intake_ ? request() : unknown, failure.status, failure.message);
  if (failure.status == 503) {
    response.headers.emplace_back("retry-after", "1");
  }
  respond(response);
}

void TcpConnection::respond(const HttpResponse& response) {
  put(closing_response(response));
  answered_last_ = true;
}

void TcpConnection::begin_answer() {
  RequestReader& reader = intake_->reader();
  const HttpAnswer::Form form{
      .http_1_1 = reader.http_1_1(),
      .keep_alive = reader.keep_alive() && !draining_,
      .head_only = request().method == "HEAD"};
  answer_ = std::make_shared<HttpAnswer>(
      share_.loop, form, share_.unsent, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) {
          self->changed_.cancel();
        }
      });
  auto exchange = std::make_shared<Exchange>(
      answer_, std::move(request()), intake_->share());
  intake_.reset();
  try {
    share_.service.handle(std::move(exchange));
  } catch (...) {
    // The exchange is gone without an answer, which makes it a 500.
    const ApiError error = to_api_error(std::current_exception());
    log::warn("[server] a handler failed: {}", error.what());
  }
}

// Nobody is there to read the answer, or not in time. Whether somebody is can
// not be seen any more behind too many requests that were sent ahead.
bool TcpConnection::lost() const {
  return closed_ || write_failed_ || stalled() || answer_->overflowed() ||
      ((input_ended_ || input_full()) && !answer_->complete());
}

// False when the connection ends with this answer.
Coroutine<bool> TcpConnection::answer_request() {
  begin_answer();
  for (;;) {
    put(answer_->take());
    if (answer_->complete() && !unsent()) {
      break;
    }
    if (lost()) {
      close();
      co_return false;
    }
    co_await wait(changed_, write_deadline());
  }
  const bool goes_on = answer_->keep_alive() && !draining_;
  answered_last_ = !goes_on;
  answer_.reset();
  co_return goes_on;
}

Coroutine<void> TcpConnection::say_goodbye() {
  while (unsent() && !write_failed_ && !closed_ && !stalled()) {
    co_await wait(changed_, write_deadline());
  }
  if (!answered_last_ || write_failed_ || closed_ || input_ended_) {
    co_return;
  }
  boost::system::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  discarding_ = true;
  input_.clear();
  room_.cancel();
  const Clock::time_point end = after(kLingerSeconds);
  while (!input_ended_ && !closed_ && Clock::now() < end) {
    co_await wait(changed_, end);
  }
}

} // namespace

std::shared_ptr<Connection> make_connection(
    ConnectionShare& share,
    const Accepted& accepted,
    bool refused) {
  return std::make_shared<TcpConnection>(share, accepted, refused);
}

} // namespace mlx_flash::server
