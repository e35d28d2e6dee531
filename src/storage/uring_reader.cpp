#include "storage/uring_reader.h"

#ifdef MLX_FLASH_HAVE_URING

#include <liburing.h>
#include <sys/uio.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/log.h"
#include "storage/request_queue.h"

namespace mlx_flash {

namespace {

bool is_transient(int result) {
  return result == -EINTR || result == -EAGAIN || result == -EBUSY;
}

struct CloseRing {
  void operator()(io_uring* ring) const {
    io_uring_queue_exit(ring);
    delete ring;
  }
};
using Ring = std::unique_ptr<io_uring, CloseRing>;

class UringReader : public Reader {
 public:
  // `ring` has `options.depth` entries or more.
  UringReader(
      Ring ring,
      std::vector<DirectFile> files,
      const ReaderOptions& options,
      UringRefusal refusal)
      : refusal_(std::move(refusal)),
        files_(std::move(files)),
        block_bytes_(options.block_bytes),
        staging_(
            static_cast<size_t>(options.staging_blocks()) *
            options.block_bytes),
        queue_(files_, options.block_bytes),
        flights_(static_cast<size_t>(options.depth)),
        ring_(std::move(ring)) {
    for (uint32_t i = 0; i < flights_.size(); ++i) {
      idle_.push_back(i);
    }
    for (uint32_t i = 0; i < static_cast<uint32_t>(options.staging_blocks());
         ++i) {
      blocks_.push_back(i);
    }
    register_files();
    register_staging();
  }

  // The kernel writes into staging and into callers' memory until the last
  // read has ended.
  ~UringReader() override {
    while (idle_.size() < flights_.size()) {
      enter(1);
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(ring_.get(), &cqe) == 0) {
        idle_.push_back(static_cast<uint32_t>(cqe->user_data));
        io_uring_cqe_seen(ring_.get(), cqe);
      }
      for (const uint32_t number : std::exchange(refused_, {})) {
        idle_.push_back(number);
      }
    }
  }

  std::string_view name() const override {
    return given_up_ ? "pread" : "uring";
  }

  void submit(std::span<const ReadRequest> requests) override {
    for (const auto& request : requests) {
      queue_.push(request);
    }
    start();
    enter(0);
  }

  size_t wait(std::vector<ReadCompletion>& completions) override {
    reap();
    read_refused();
    while (!queue_.has_completions() && queue_.outstanding() > 0) {
      enter(1);
      reap();
      read_refused();
    }
    enter(0);
    return queue_.take(completions);
  }

  size_t poll(std::vector<ReadCompletion>& completions) override {
    reap();
    enter(0);
    return queue_.take(completions);
  }

  size_t outstanding() const override {
    return queue_.outstanding();
  }
  uint64_t device_bytes() const override {
    return device_bytes_;
  }
  uint64_t staging_bytes() const override {
    return staging_.size();
  }
  int depth() const override {
    return static_cast<int>(flights_.size());
  }

 private:
  // A window at the device.
  struct Flight {
    uint32_t request = 0;
    uint32_t file = 0;
    std::optional<uint32_t> block; // of staging, unless it is read straight
    WindowRead read;
  };

  void register_files() {
    std::vector<int> descriptors;
    for (const auto& file : files_) {
      descriptors.push_back(file.descriptor());
    }
    fixed_files_ = !descriptors.empty() &&
        io_uring_register_files(
            ring_.get(),
            descriptors.data(),
            static_cast<unsigned>(descriptors.size())) == 0;
  }

  // Refused where the limit on locked memory (RLIMIT_MEMLOCK) is small.
  void register_staging() {
    std::vector<iovec> blocks;
    for (const uint32_t block : blocks_) {
      blocks.push_back({staging_block(block), block_bytes_});
    }
    fixed_staging_ =
        io_uring_register_buffers(
            ring_.get(), blocks.data(), static_cast<unsigned>(blocks.size())) ==
        0;
  }

  std::byte* staging_block(uint32_t block) const {
    return staging_.data() + block * block_bytes_;
  }

  // Puts reads into the ring while there are any and the depth and the staging
  // blocks allow.
  void start() {
    while (!idle_.empty()) {
      if (!next_) {
        next_ = queue_.next();
      }
      if (!next_ || (!next_->window.straight && blocks_.empty())) {
        return;
      }
      const uint32_t number = idle_.back();
      idle_.pop_back();
      Flight& flight = flights_[number];
      flight.request = next_->request;
      flight.file = next_->file;
      flight.block.reset();
      if (!next_->window.straight) {
        flight.block = blocks_.back();
        blocks_.pop_back();
      }
      flight.read = WindowRead(
          next_->window,
          files_[next_->file].alignment(),
          flight.block ? staging_block(*flight.block) : nullptr);
      next_.reset();
      prepare(number);
    }
  }

  // The ring has as many entries as there are flights, so one is free.
  void prepare(uint32_t number) {
    const Flight& flight = flights_[number];
    const auto target = flight.read.target();
    device_bytes_ += target.size();
    prepared_.push_back(number);
    if (given_up_) {
      return;
    }
    io_uring_sqe* sqe = io_uring_get_sqe(ring_.get());
    const int file = fixed_files_ ? static_cast<int>(flight.file)
                                  : files_[flight.file].descriptor();
    const auto bytes = static_cast<unsigned>(target.size());
    if (fixed_staging_ && flight.block) {
      io_uring_prep_read_fixed(
          sqe,
          file,
          target.data(),
          bytes,
          flight.read.offset(),
          static_cast<int>(*flight.block));
    } else {
      io_uring_prep_read(sqe, file, target.data(), bytes, flight.read.offset());
    }
    if (fixed_files_) {
      sqe->flags |= IOSQE_FIXED_FILE;
    }
    sqe->user_data = number;
  }

  // Hands what was prepared to the kernel and waits for `completions`. Never
  // fails: memory that requests name is the kernel's until it says otherwise.
  void enter(unsigned completions) {
    if (given_up_) {
      refuse_prepared();
      if (completions > 0 && refused_.empty()) {
        // What the kernel has already ends without our entering it.
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
      return;
    }
    if (completions == 0 && prepared_.empty()) {
      return;
    }
    int result = refusal_ ? refusal_() : 0;
    if (result == 0) {
      result = io_uring_submit_and_wait(ring_.get(), completions);
    }
    // The kernel takes from the front, and what it has taken ends as a
    // completion, whatever it returned.
    const size_t left = io_uring_sq_ready(ring_.get());
    prepared_.erase(
        prepared_.begin(), prepared_.end() - static_cast<std::ptrdiff_t>(left));
    if (result < 0 && !is_transient(result)) {
      log::warn(
          "[reader] io_uring failed: {}; reading without it",
          std::strerror(-result));
      given_up_ = true;
      refuse_prepared();
    }
  }

  void refuse_prepared() {
    refused_.insert(refused_.end(), prepared_.begin(), prepared_.end());
    prepared_.clear();
  }

  // Reads that a ring which was given up did not take, one by one, until there
  // is a completion. This waits, so poll() does without.
  void read_refused() {
    while (!refused_.empty() && !queue_.has_completions()) {
      const uint32_t number = refused_.back();
      refused_.pop_back();
      const Flight& flight = flights_[number];
      take(
          number,
          static_cast<int>(files_[flight.file].read_at(
              flight.read.offset(), flight.read.target())));
      start();
      refuse_prepared();
    }
  }

  // Takes what the kernel has completed and prepares what follows from it.
  void reap() {
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(ring_.get(), &cqe) == 0) {
      const auto number = static_cast<uint32_t>(cqe->user_data);
      const int result = cqe->res;
      io_uring_cqe_seen(ring_.get(), cqe);
      take(number, result);
    }
    start();
  }

  void take(uint32_t number, int result) {
    Flight& flight = flights_[number];
    const DirectFile& file = files_[flight.file];
    if (!file.is_direct() && result > 0) {
      file.drop_cache(flight.read.offset(), static_cast<uint64_t>(result));
    }
    switch (flight.read.advance(result)) {
      case WindowRead::State::again:
        prepare(number);
        return;
      case WindowRead::State::done:
        flight.read.deliver();
        queue_.finish(flight.request, nullptr);
        break;
      case WindowRead::State::failed:
        queue_.finish(flight.request, &flight.read.cause());
        break;
    }
    if (flight.block) {
      blocks_.push_back(*flight.block);
    }
    idle_.push_back(number);
  }

  const UringRefusal refusal_;
  const std::vector<DirectFile> files_;
  const uint64_t block_bytes_;
  AlignedBuffer staging_;
  RequestQueue queue_;
  std::vector<Flight> flights_;
  std::vector<uint32_t> idle_;
  std::vector<uint32_t> blocks_; // of staging that are free
  std::optional<RequestQueue::Piece> next_; // waits for a staging block
  std::vector<uint32_t> prepared_; // flights that the kernel has not taken
  std::vector<uint32_t> refused_; // and those that it will not take
  bool given_up_ = false; // the ring; completions may still come
  Ring ring_;
  bool fixed_files_ = false;
  bool fixed_staging_ = false;
  uint64_t device_bytes_ = 0;
};

// Null, with the reason in `refused`, unless it can do what is needed.
Ring open_ring(int depth, std::string& refused) {
  auto memory = std::make_unique<io_uring>();
  const int result =
      io_uring_queue_init(static_cast<unsigned>(depth), memory.get(), 0);
  if (result < 0) {
    refused = std::strerror(-result);
    return nullptr;
  }
  Ring ring(memory.release());
  io_uring_probe* probe = io_uring_get_probe_ring(ring.get());
  const bool reads = probe && io_uring_opcode_supported(probe, IORING_OP_READ);
  io_uring_free_probe(probe);
  if (!reads) {
    refused = "the kernel's io_uring is older than Linux 5.6";
    return nullptr;
  }
  return ring;
}

} // namespace

std::unique_ptr<Reader> make_uring_reader(
    std::vector<DirectFile>& files,
    const ReaderOptions& options,
    std::string& refused,
    UringRefusal refusal) {
  Ring ring = open_ring(options.depth, refused);
  if (!ring) {
    return nullptr;
  }
  return std::make_unique<UringReader>(
      std::move(ring), std::move(files), options, std::move(refusal));
}

} // namespace mlx_flash

#else

namespace mlx_flash {

std::unique_ptr<Reader> make_uring_reader(
    std::vector<DirectFile>&,
    const ReaderOptions&,
    std::string& refused,
    UringRefusal) {
  refused = "this build has no io_uring";
  return nullptr;
}

} // namespace mlx_flash

#endif
