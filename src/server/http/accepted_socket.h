// The socket of a connection that was taken, set up as connection.cpp needs it.
//
// Thread rule: a pure function.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "server/http/connection.h"

namespace mlx_flash::server {

// Owns the descriptor, also if it throws. What is written is sent at once. A
// peer that has vanished without a word is found out within two minutes, also
// while it is only waited for.
boost::asio::ip::tcp::socket adopt(
    boost::asio::io_context& io,
    const Accepted& accepted);

} // namespace mlx_flash::server
