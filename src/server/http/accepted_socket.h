// How the socket of a connection behaves.
//
// Thread rule: a pure function.
#pragma once

namespace mlx_flash::server {

// What is written is sent at once. A peer that has vanished without a word is
// found out within two minutes, also while it is only waited for.
void set_up_socket(int descriptor);

} // namespace mlx_flash::server
