#include "storage/checksums.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "platform/direct_file.h"
#include "storage/file_stream.h"
#include "storage/hash.h"

namespace mlx_flash {

namespace {

constexpr const char* kFormat = "mlx-flash checksums 1";
constexpr uint64_t kBufferBytes = 8 << 20;
constexpr size_t kMaxRuns = 3'000'000; // of 262,144 experts, and the rest

// Hashes runs, in order, as their bytes come.
class Hasher {
 public:
  Hasher() : state_(make_hash_state()) {
    XXH3_64bits_reset(state_.get());
  }
  void update(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
  }
  uint64_t finish() {
    const uint64_t sum = XXH3_64bits_digest(state_.get());
    XXH3_64bits_reset(state_.get());
    return sum;
  }

 private:
  const HashState state_;
};

void read_all(Reader& reader, std::span<const ReadRequest> requests) {
  reader.submit(requests);
  std::vector<ReadCompletion> completions;
  while (reader.wait(completions) > 0) {
  }
  for (const auto& completion : completions) {
    if (completion.error) {
      fail(ErrorCode::io, "{}; no checksums are made", *completion.error);
    }
  }
}

} // namespace

std::vector<ChecksumTable::File> ChecksumTable::list_files(
    const Checkpoint& checkpoint) {
  std::vector<File> files;
  for (const auto& path : checkpoint.files()) {
    files.push_back(
        {path.lexically_relative(checkpoint.folder()).string(),
         std::filesystem::file_size(path)});
  }
  return files;
}

std::vector<ChecksumTable::Run> ChecksumTable::list_runs(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout) {
  std::vector<Run> runs;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.bytes > 0 && !layout.is_expert_tensor(tensor.name)) {
      runs.push_back({tensor.file, tensor.offset, tensor.bytes, 0});
    }
  }
  for (const LayerExperts& layer : layout.layers()) {
    for (uint16_t e = 0; e < layer.experts; ++e) {
      for (const Section& section : layout.sections({layer.layer, e})) {
        runs.push_back({section.file, section.file_offset, section.bytes, 0});
      }
    }
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

ChecksumTable ChecksumTable::compute(
    const Checkpoint& checkpoint,
    const ExpertLayout& layout,
    Reader& reader) {
  ChecksumTable table;
  table.files_ = list_files(checkpoint);
  table.runs_ = list_runs(checkpoint, layout);
  const AlignedBuffer buffer(kBufferBytes);
  Hasher hasher;
  std::vector<ReadRequest> requests;
  size_t filled = 0;
  size_t hashed = 0; // runs
  uint64_t hashed_bytes = 0; // of run `hashed`
  const auto flush = [&] {
    read_all(reader, requests);
    for (const auto& request : requests) {
      hasher.update(request.dest);
      hashed_bytes += request.dest.size();
      if (hashed_bytes == table.runs_[hashed].bytes) {
        table.runs_[hashed++].xxh3 = hasher.finish();
        hashed_bytes = 0;
      }
    }
    requests.clear();
    filled = 0;
  };
  for (const Run& run : table.runs_) {
    for (uint64_t at = 0; at < run.bytes;) {
      const auto bytes = static_cast<size_t>(
          std::min<uint64_t>(run.bytes - at, kBufferBytes - filled));
      requests.push_back(
          {run.file, run.offset + at, buffer.span().subspan(filled, bytes), 0});
      at += bytes;
      filled += bytes;
      if (filled == kBufferBytes) {
        flush();
      }
    }
  }
  flush();
  return table;
}

std::optional<std::string> ChecksumTable::check(
    uint32_t file,
    uint64_t offset,
    std::span<const std::byte> bytes) const {
  if (bytes.empty()) {
    return std::nullopt;
  }
  const auto where = [&] {
    return fmt::format(
        "[checksums] {}: {} bytes at offset {}",
        file < files_.size() ? files_[file].name : std::to_string(file),
        bytes.size(),
        offset);
  };
  const auto run =
      std::lower_bound(runs_.begin(), runs_.end(), Run{file, offset, 0, 0});
  if (run == runs_.end() || run->file != file || run->offset != offset ||
      run->bytes != bytes.size()) {
    return where() + " have no checksum; make the checksums again";
  }
  const uint64_t sum = XXH3_64bits(bytes.data(), bytes.size());
  if (sum == run->xxh3) {
    return std::nullopt;
  }
  return fmt::format(
      "{} are not what they were: checksum {:016x} instead of {:016x}; the "
      "disk or the file has changed",
      where(),
      sum,
      run->xxh3);
}

std::string ChecksumTable::difference(const ChecksumTable& then) const {
  for (const Run& run : then.runs_) {
    const auto now = std::lower_bound(runs_.begin(), runs_.end(), run);
    const bool there = now != runs_.end() && now->file == run.file &&
        now->offset == run.offset && now->bytes == run.bytes;
    if (!there || now->xxh3 != run.xxh3) {
      return fmt::format(
          "[checksums] {}: {} bytes at offset {} are not what they were",
          files_[run.file].name,
          run.bytes,
          run.offset);
    }
  }
  return then.size() == size() ? "" : "[checksums] some runs have no checksum";
}

// ---- the file ----

void ChecksumTable::save(const std::filesystem::path& path) const {
  auto temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  const auto io_failed = [&] {
    const int cause = errno;
    std::remove(temporary.c_str());
    fail(
        ErrorCode::io,
        "[checksums] cannot write {}: {}",
        path.string(),
        std::strerror(cause));
  };
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(
      std::fopen(temporary.c_str(), "wb"), &std::fclose);
  if (!out) {
    io_failed();
  }
  bool good = true;
  const auto write = [&](const std::string& text) {
    good = good &&
        std::fwrite(text.data(), 1, text.size(), out.get()) == text.size();
  };
  write(fmt::format("{{\"format\": \"{}\",\n\"files\": [", kFormat));
  for (const File& file : files_) {
    const nlohmann::json object = {{"name", file.name}, {"bytes", file.bytes}};
    write((&file == &files_[0] ? "\n" : ",\n") + object.dump());
  }
  write("],\n\"runs\": [");
  for (const Run& run : runs_) {
    write(fmt::format(
        "{}[{}, {}, {}, \"{:016x}\"]",
        &run == &runs_[0] ? "\n" : ",\n",
        run.file,
        run.offset,
        run.bytes,
        run.xxh3));
  }
  write("]}\n");
  good = good && std::fflush(out.get()) == 0 &&
      ::fsync(::fileno(out.get())) == 0 && std::fclose(out.release()) == 0 &&
      std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!good) {
    io_failed();
  }
}

ChecksumTable ChecksumTable::load(
    const std::filesystem::path& path,
    const Checkpoint& checkpoint) {
  const DirectFile file(path);
  JsonScanner json(
      stream_file(file, 0, file.size()),
      fmt::format("[checksums] {}", path.string()),
      "make the checksums again");
  ChecksumTable table;
  table.parse(json);
  if (table.files_ != list_files(checkpoint)) {
    fail(
        ErrorCode::bad_model,
        "[checksums] {} was made for other files than those of {}; make the "
        "checksums again",
        path.string(),
        checkpoint.folder().string());
  }
  return table;
}

void ChecksumTable::parse(JsonScanner& json) {
  std::string format;
  json.begin_object();
  for (std::string name; json.next_member(name);) {
    if (name == "format") {
      format = json.string();
    } else if (name == "files") {
      json.begin_array();
      while (json.next_element()) {
        File& file = files_.emplace_back();
        if (files_.size() > 1000) {
          json.refuse("more files than any model has");
        }
        json.begin_object();
        for (std::string field; json.next_member(field);) {
          if (field == "name") {
            file.name = json.string();
          } else if (field == "bytes") {
            file.bytes = static_cast<uint64_t>(json.unsigned_integer());
          } else {
            json.skip();
          }
        }
      }
    } else if (name == "runs") {
      json.begin_array();
      while (json.next_element()) {
        runs_.push_back(parse_run(json));
        if (runs_.size() > kMaxRuns) {
          json.refuse("more runs than any model has");
        }
      }
    } else {
      json.skip();
    }
  }
  json.finish();
  if (format != kFormat) {
    json.refuse("this is no file of checksums");
  }
}

ChecksumTable::Run ChecksumTable::parse_run(JsonScanner& json) const {
  uint64_t numbers[3] = {};
  json.begin_array();
  for (uint64_t& number : numbers) {
    if (!json.next_element()) {
      json.refuse("a run that is not [file, offset, bytes, checksum]");
    }
    number = static_cast<uint64_t>(json.unsigned_integer());
  }
  Run run{static_cast<uint32_t>(numbers[0]), numbers[1], numbers[2], 0};
  const std::string sum = json.next_element() ? json.string() : std::string();
  const auto [end, error] =
      std::from_chars(sum.data(), sum.data() + sum.size(), run.xxh3, 16);
  if (sum.size() != 16 || error != std::errc() ||
      end != sum.data() + sum.size() || json.next_element() ||
      numbers[0] > UINT32_MAX || (!runs_.empty() && !(runs_.back() < run))) {
    json.refuse("a run that is not [file, offset, bytes, checksum] in order");
  }
  return run;
}

} // namespace mlx_flash
