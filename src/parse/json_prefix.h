// JSON that arrives byte by byte: whether it can still become one value, how
// much of it can be told already, and what makes that much a whole value. It
// keeps no text but that of a number.
//
// As strict as JSON itself: UTF-8, no lone surrogates, no number that a double
// cannot hold, nothing deeper than kMostDepth.
//
// Thread rule: one thread at a time.
#pragma once

#include <cstddef>
#include <string>

#include "parse/utf8_prefix.h"

namespace mlx_flash::parse {

class JsonPrefix {
 public:
  static constexpr size_t kMostDepth = 64;
  static constexpr size_t kMostNumberBytes = 512;

  enum class State { reading, complete, broken };

  // Takes `byte` if it belongs to the value. If it returns false, state() says
  // why: the value was complete before (a number ends only there), or is
  // broken. The first byte must not be white space.
  bool push(char byte);
  State state() const {
    return state_;
  }

  // So many of the bytes can be told: closing() behind them makes a value.
  // What is held back is the beginning of a number, a word, an escape or a
  // character, and a comma until something follows.
  size_t certain() const {
    return certain_;
  }
  std::string closing() const;

 private:
  enum class Step {
    value, // one must begin
    first_item, // of an array, or its end
    first_key, // of an object, or its end
    key, // after a comma
    colon,
    after, // a value within an array or an object
    string,
    escape, // after a backslash
    hex, // of \uXXXX
    low_backslash, // a high surrogate needs \uXXXX after it
    low_u,
    number,
    word, // true, false, null
    end,
  };

  bool step(char byte);
  bool begin_value(char byte);
  bool open(char bracket, Step next);
  bool close(char bracket);
  bool in_structure(char byte);
  bool in_string(char byte);
  bool in_escape(char byte);
  bool in_hex(char byte);
  bool in_number(char byte);
  bool in_word(char byte);
  void end_value();
  bool fits_number(char byte) const;
  bool is_certain() const;
  void note_certain();

  State state_ = State::reading;
  Step step_ = Step::value;
  std::string open_; // brackets, the innermost last
  bool in_key_ = false;
  bool after_comma_ = false;
  Utf8Prefix utf8_;
  bool partial_character_ = false;
  std::string pending_; // a number, a word, or digits of an escape
  const char* word_ = "";
  bool low_ = false; // the escape is a low surrogate

  size_t taken_ = 0;
  size_t certain_ = 0;
  Step certain_step_ = Step::value;
  bool certain_key_ = false;
};

} // namespace mlx_flash::parse
