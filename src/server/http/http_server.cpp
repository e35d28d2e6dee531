#include "server/http/http_server.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "server/api_error.h"
#include "server/http/connection.h"

namespace mlx_flash::server {

namespace {

namespace asio = boost::asio;

using asio::ip::tcp;
using Connections = std::map<Connection*, std::shared_ptr<Connection>>;

// Connections beyond the limit that are told so at the same time; more are
// closed without a word.
constexpr size_t kMostRefused = 64;

void run(const Task& task) {
  try {
    task();
  } catch (...) {
    const ApiError error = to_api_error(std::current_exception());
    log::warn("[server] a task of the loop failed: {}", error.what());
  }
}

// Unique in this process, and most likely among those before it.
std::function<std::string()> id_maker() {
  const uint32_t process = std::random_device()();
  return [process, count = uint64_t{0}]() mutable {
    return fmt::format("req_{:08x}{:08x}", process, ++count);
  };
}

tcp::acceptor open_acceptor(asio::io_context& io, const tcp::endpoint& at) {
  tcp::acceptor acceptor(io);
  acceptor.open(at.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  if (at.protocol() == tcp::v6()) {
    // "::" means every address; that of localhost is beside 127.0.0.1.
    acceptor.set_option(asio::ip::v6_only(!at.address().is_unspecified()));
  }
  acceptor.bind(at);
  acceptor.listen();
  return acceptor;
}

std::vector<asio::ip::address> resolve(
    asio::io_context& io,
    const std::string& host) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (!error) {
    return {address};
  }
  std::vector<asio::ip::address> addresses;
  tcp::resolver resolver(io);
  for (const auto& entry : resolver.resolve(host, "", error)) {
    const asio::ip::address found = entry.endpoint().address();
    if (std::find(addresses.begin(), addresses.end(), found) ==
        addresses.end()) {
      addresses.push_back(found);
    }
  }
  if (addresses.empty()) {
    mlx_flash::fail(
        ErrorCode::invalid_argument,
        "[server] the host '{}' is not known ({}); give an address of this "
        "machine, such as 127.0.0.1",
        host,
        error.message());
  }
  return addresses;
}

} // namespace

HttpResponse HttpService::plain_explanation(
    const HttpRequest&,
    int status,
    const std::string& message) {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/plain; charset=utf-8";
  response.body = message + "\n";
  return response;
}

struct HttpServer::State {
  State(Loop& loop, const ServerLimits& its_limits)
      : limits(its_limits),
        io(std::make_unique<asio::io_context>(1)),
        share{*io, loop, limits, {}, id_maker(), [this](Connection* closed) {
                forget(closed);
              }} {}

  void start_loop();
  void post(Task task);
  asio::awaitable<void> accept(tcp::acceptor& acceptor);
  void take(tcp::socket socket);
  void make_room();
  void forget(Connection* connection);
  void begin_drain(Task closed);
  void close_all();
  void tell_closed();

  const ServerLimits limits;
  std::mutex mutex; // of `ended`, with which posting stops
  bool ended = false;
  std::unique_ptr<asio::io_context> io; // destroyed when the loop has ended
  std::thread thread;
  std::once_flag stop_once;
  std::atomic<uint16_t> port = 0;
  std::atomic<uint64_t> connections = 0;

  // Of the loop:
  ConnectionShare share;
  std::vector<tcp::acceptor> acceptors;
  Connections open;
  Connections refused;
  bool draining = false;
  Task on_closed;
};

void HttpServer::State::start_loop() {
  thread = std::thread([this, guard = asio::make_work_guard(*io)] {
    while (!io->stopped()) {
      try {
        io->run();
      } catch (const std::exception& error) {
        log::warn("[server] the loop goes on after: {}", error.what());
      }
    }
  });
}

void HttpServer::State::post(Task task) {
  std::lock_guard lock(mutex);
  if (!ended) {
    asio::post(*io, [task = std::move(task)] { run(task); });
  }
}

asio::awaitable<void> HttpServer::State::accept(tcp::acceptor& acceptor) {
  while (acceptor.is_open()) {
    tcp::socket socket(*io);
    const auto [error] = co_await acceptor.async_accept(
        socket, asio::as_tuple(asio::use_awaitable));
    if (draining || error == asio::error::operation_aborted) {
      co_return;
    }
    try {
      if (!error) {
        take(std::move(socket));
        continue;
      }
    } catch (const std::exception& failed) {
      log::warn("[server] a connection could not be taken: {}", failed.what());
    }
    // Most likely there are no more descriptors; some will be given back.
    asio::steady_timer pause(*io, std::chrono::milliseconds(50));
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

void HttpServer::State::take(tcp::socket socket) {
  boost::system::error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) {
    return; // it is gone already
  }
  if (open.size() >= limits.connections) {
    make_room();
  }
  const bool room = open.size() < limits.connections;
  if (!room && refused.size() >= kMostRefused) {
    return;
  }
  Accepted accepted;
  accepted.ipv6 = peer.protocol() == tcp::v6();
  const std::string address = peer.address().to_string();
  accepted.peer = accepted.ipv6 ? fmt::format("[{}]:{}", address, peer.port())
                                : fmt::format("{}:{}", address, peer.port());
  accepted.descriptor = socket.release();
  const auto made = make_connection(share, accepted, !room);
  (room ? open : refused).emplace(made.get(), made);
  connections = open.size();
  made->start();
}

// Closes the connection that has waited longest for a request: who only holds
// connections must not lock out those who have one.
void HttpServer::State::make_room() {
  std::shared_ptr<Connection> longest;
  double earliest = 0;
  for (const auto& [key, connection] : open) {
    const auto since = connection->idle_since();
    if (since && (!longest || *since < earliest)) {
      longest = connection;
      earliest = *since;
    }
  }
  if (longest) {
    longest->close();
  }
}

void HttpServer::State::forget(Connection* connection) {
  open.erase(connection);
  refused.erase(connection);
  connections = open.size();
  tell_closed();
}

void HttpServer::State::tell_closed() {
  if (draining && open.empty() && refused.empty() && on_closed) {
    run(std::exchange(on_closed, {}));
  }
}

void HttpServer::State::begin_drain(Task closed) {
  draining = true;
  on_closed = std::move(closed);
  for (tcp::acceptor& acceptor : acceptors) {
    boost::system::error_code ignored;
    acceptor.close(ignored);
  }
  for (const auto& [key, connection] : Connections(open)) {
    connection->drain();
  }
  tell_closed();
}

void HttpServer::State::close_all() {
  for (const Connections& connections_now :
       {Connections(open), Connections(refused)}) {
    for (const auto& [key, connection] : connections_now) {
      connection->close();
    }
  }
}

HttpServer::HttpServer(const ServerLimits& limits)
    : state_(std::make_unique<State>(*this, limits)) {
  state_->start_loop();
}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::post(Task task) {
  state_->post(std::move(task));
}

Task HttpServer::post_after(double seconds, Task task) {
  std::lock_guard lock(state_->mutex);
  if (state_->ended) {
    return [] {};
  }
  const auto timer = std::make_shared<asio::steady_timer>(
      *state_->io,
      std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::chrono::duration<double>(seconds)));
  timer->async_wait([timer, task = std::move(task)](const auto& error) {
    if (!error) {
      run(task);
    }
  });
  return [this, weak = std::weak_ptr(timer)] {
    if (!weak.expired()) {
      post([weak] {
        if (const auto waiting = weak.lock()) {
          waiting->cancel();
        }
      });
    }
  };
}

void HttpServer::listen(
    const std::string& host,
    uint16_t port,
    HttpService service) {
  std::vector<tcp::acceptor> acceptors;
  for (const asio::ip::address& address : resolve(*state_->io, host)) {
    try {
      acceptors.push_back(open_acceptor(*state_->io, {address, port}));
    } catch (const boost::system::system_error& error) {
      // A name may have an address of a family that this machine lacks.
      if (error.code() == asio::error::address_family_not_supported ||
          error.code() == boost::system::errc::address_not_available) {
        continue;
      }
      mlx_flash::fail(
          ErrorCode::io,
          "[server] cannot listen at {}, port {}: {}; choose another --port",
          host,
          port,
          error.code().message());
    }
    // All addresses have the port that the first one was given.
    port = acceptors.back().local_endpoint().port();
  }
  if (acceptors.empty()) {
    mlx_flash::fail(
        ErrorCode::invalid_argument,
        "[server] '{}' is no address of this machine; choose another --host",
        host);
  }
  state_->port = port;
  // std::function must be copied, acceptors cannot be.
  const auto shared =
      std::make_shared<std::vector<tcp::acceptor>>(std::move(acceptors));
  state_->post([state = state_.get(), shared, service = std::move(service)] {
    state->share.service = service;
    state->acceptors = std::move(*shared);
    for (tcp::acceptor& acceptor : state->acceptors) {
      asio::co_spawn(*state->io, state->accept(acceptor), asio::detached);
    }
  });
}

uint16_t HttpServer::port() const {
  return state_->port;
}

uint64_t HttpServer::connections() const {
  return state_->connections;
}

void HttpServer::drain(double seconds, Task closed) {
  state_->post([state = state_.get(), closed = std::move(closed)] {
    state->begin_drain(closed);
  });
  post_after(seconds, [state = state_.get()] { state->close_all(); });
}

void HttpServer::stop() {
  std::call_once(state_->stop_once, [this] {
    state_->post([state = state_.get()] {
      state->begin_drain({});
      state->close_all();
      // Behind what closing them has posted.
      state->post([state] { state->io->stop(); });
    });
    state_->thread.join();
    {
      std::lock_guard lock(state_->mutex);
      state_->ended = true;
    }
    state_->acceptors.clear();
    state_->io.reset();
  });
}

} // namespace mlx_flash::server
