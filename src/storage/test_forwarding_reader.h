// For tests: a reader that passes everything on to another. What a test wants
// to see or to hold up, it overrides.
#pragma once

#include <memory>
#include <utility>

#include "storage/reader.h"

namespace mlx_flash {

class ForwardingReader : public Reader {
 public:
  explicit ForwardingReader(std::unique_ptr<Reader> reader)
      : reader_(std::move(reader)) {}

  std::string_view name() const override {
    return reader_->name();
  }
  void submit(std::span<const ReadRequest> requests) override {
    reader_->submit(requests);
  }
  size_t wait(std::vector<ReadCompletion>& completions) override {
    return reader_->wait(completions);
  }
  size_t poll(std::vector<ReadCompletion>& completions) override {
    return reader_->poll(completions);
  }
  size_t outstanding() const override {
    return reader_->outstanding();
  }
  uint64_t device_bytes() const override {
    return reader_->device_bytes();
  }
  uint64_t staging_bytes() const override {
    return reader_->staging_bytes();
  }
  int depth() const override {
    return reader_->depth();
  }

 private:
  std::unique_ptr<Reader> reader_;
};

} // namespace mlx_flash
