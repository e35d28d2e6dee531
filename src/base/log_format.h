// Text within a line of the log. Not the lines themselves, which are in
// log.cpp.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace mlx_flash::log {

// Appends `text` with control characters (C0, DEL, and C1, with which
// terminals are told what to do) and bytes that are no UTF-8 as \n, \t, \u001b
// or \xff.
void append_line_text(std::string& line, std::string_view text);

// Appends `text` as a JSON string, in quotes; bytes that are no UTF-8 become
// U+FFFD each.
void append_json_text(std::string& line, std::string_view text);

} // namespace mlx_flash::log
