#include "server/replay.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

namespace mlx_flash::server {

struct Replay::Entry {
  Key key;
  std::vector<TokenId> prompt;
  std::string answer; // as it was generated
  std::vector<TokenId> tokens; // of the answer
  std::string end_piece;

  size_t bytes() const {
    return sizeof(*this) + answer.size() + end_piece.size() +
        (prompt.size() + tokens.size()) * sizeof(TokenId);
  }
};

namespace {

// Each is read and compared; the longest comes first, so that others only
// matter after an answer was edited.
constexpr size_t kMostTried = 4;

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// Of a model's name and of growing beginnings of a text.
class RunningHash {
 public:
  RunningHash(uint64_t seed, const std::string& model)
      : state_(XXH3_createState(), XXH3_freeState) {
    if (!state_) {
      throw std::bad_alloc();
    }
    XXH3_128bits_reset_withSeed(state_.get(), seed);
    XXH3_128bits_update(state_.get(), model.data(), model.size() + 1);
  }

  void push(std::string_view text) {
    XXH3_128bits_update(state_.get(), text.data(), text.size());
  }
  XXH128_hash_t value() const {
    return XXH3_128bits_digest(state_.get());
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

} // namespace

Replay::Replay(size_t most_answers, size_t most_bytes)
    : most_answers_(most_answers),
      most_bytes_(most_bytes),
      seed_(random_seed()) {}

Replay::~Replay() = default;

namespace {

// Where the turn behind `begin` ends; npos if it does not.
size_t end_of_turn(
    std::string_view prompt,
    size_t begin,
    const std::string& end_piece) {
  return end_piece.empty() ? std::string_view::npos
                           : prompt.find(end_piece, begin);
}

} // namespace

std::vector<TokenId> Replay::encode(
    const std::string& model,
    const Text& text,
    const std::string& prompt,
    const AnswerReading& reading) {
  const std::string_view whole = prompt;
  for (const EntryPtr& entry : find_beginnings(model, whole)) {
    const size_t begin = entry->key.length;
    if (begin == whole.size()) {
      touch(entry);
      return entry->prompt; // to be answered once more
    }
    const size_t end = end_of_turn(whole, begin, entry->end_piece);
    if (end == std::string_view::npos) {
      continue;
    }
    const bool in_reasoning =
        parse::begins_in_reasoning(reading.form, whole.substr(0, begin));
    const auto read = [&](std::string_view answer) {
      return parse::parse_answer(
          reading.form, reading.tools, in_reasoning, answer);
    };
    if (!parse::says_the_same(
            read(whole.substr(begin, end - begin)), read(entry->answer))) {
      continue;
    }
    touch(entry);
    std::vector<TokenId> tokens = entry->prompt;
    const auto add = [&](const std::vector<TokenId>& more) {
      tokens.insert(tokens.end(), more.begin(), more.end());
    };
    add(entry->tokens);
    add(text.encode(whole.substr(end), false));
    return tokens;
  }
  return text.encode(whole, false);
}

void Replay::store(
    const std::string& model,
    const std::string& prompt,
    std::vector<TokenId> prompt_tokens,
    std::string answer,
    std::vector<TokenId> answer_tokens,
    std::string end_piece) {
  RunningHash hash(seed_, model);
  hash.push(prompt);
  const auto entry = std::make_shared<Entry>();
  const XXH128_hash_t value = hash.value();
  entry->key = {prompt.size(), value.high64, value.low64};
  entry->prompt = std::move(prompt_tokens);
  entry->answer = std::move(answer);
  entry->tokens = std::move(answer_tokens);
  entry->end_piece = std::move(end_piece);
  std::lock_guard lock(mutex_);
  by_use_.push_front(entry);
  by_prompt_.emplace(entry->key, by_use_.begin());
  bytes_ += entry->bytes();
  while (by_use_.size() > most_answers_ || bytes_ > most_bytes_) {
    forget_oldest();
  }
}

size_t Replay::size() const {
  std::lock_guard lock(mutex_);
  return by_use_.size();
}

size_t Replay::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

// Of prompts that are known, in order, up to `most`.
std::vector<size_t> Replay::lengths(size_t most) const {
  std::vector<size_t> lengths;
  std::lock_guard lock(mutex_);
  for (auto i = by_prompt_.begin();
       i != by_prompt_.end() && i->first.length <= most;) {
    lengths.push_back(i->first.length);
    // To the next longer one.
    i = by_prompt_.upper_bound({i->first.length, UINT64_MAX, UINT64_MAX});
  }
  return lengths;
}

// Entries whose prompts `prompt` begins with, the longest first.
std::vector<Replay::EntryPtr> Replay::find_beginnings(
    const std::string& model,
    std::string_view prompt) {
  std::vector<Key> keys;
  RunningHash hash(seed_, model);
  size_t hashed = 0;
  for (const size_t length : lengths(prompt.size())) {
    hash.push(prompt.substr(hashed, length - hashed));
    hashed = length;
    const XXH128_hash_t value = hash.value();
    keys.push_back({length, value.high64, value.low64});
  }
  std::vector<EntryPtr> entries;
  std::lock_guard lock(mutex_);
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    const auto [first, last] = by_prompt_.equal_range(*key);
    for (auto i = last; i != first && entries.size() < kMostTried;) {
      entries.push_back(*(--i)->second); // the latest answer first
    }
  }
  return entries;
}

void Replay::touch(const EntryPtr& entry) {
  std::lock_guard lock(mutex_);
  const auto [first, last] = by_prompt_.equal_range(entry->key);
  for (auto i = first; i != last; ++i) {
    if (*i->second == entry) {
      by_use_.splice(by_use_.begin(), by_use_, i->second);
    }
  }
}

void Replay::forget_oldest() {
  const EntryPtr oldest = by_use_.back();
  const auto [first, last] = by_prompt_.equal_range(oldest->key);
  for (auto i = first; i != last; ++i) {
    if (*i->second == oldest) {
      by_prompt_.erase(i);
      break;
    }
  }
  by_use_.pop_back();
  bytes_ -= oldest->bytes();
}

} // namespace mlx_flash::server
