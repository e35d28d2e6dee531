// Measures llama.cpp through its public API, phase by phase: load, a prompt of
// `-p` random tokens, and `-n` tokens decoded one by one. Prints one JSON
// object a line, each as soon as its phase is over:
//
//   {"phase": "prefill", "seconds": 1.25, "tokens": 128, "bytes_read": 0,
//    "major_faults": 0}
//
// It is no part of mlx-flash: bench/peers builds it beside llama.cpp. Tokens
// are random, since a model of random weights is measured, and none is sampled.
// The line of the prefill comes when the first token is known.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/resource.h>

#include "llama.h"

namespace {

struct Options {
  std::string model;
  int prompt = 0;
  int decode = 0;
  int threads = 2;
  int seed = 1;
  bool repack = true;
  bool mmap = true;
  llama_flash_attn_type flash_attention = LLAMA_FLASH_ATTN_TYPE_AUTO;
};

constexpr const char* kUsage =
    "llama_bench -m FILE.gguf [-p N] [-n N] [-t THREADS] [--seed N]\n"
    "            [--repack on|off] [--mmap on|off] [--flash-attention on|off]\n";

int number(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0 || value > 10'000'000) {
    throw std::invalid_argument(flag + " " + text + ": is no number of tokens");
  }
  return static_cast<int>(value);
}

bool on_or_off(const std::string& flag, const std::string& text) {
  if (text != "on" && text != "off") {
    throw std::invalid_argument(flag + " " + text + ": must be on or off");
  }
  return text == "on";
}

void set(Options& options, const std::string& flag, const std::string& value) {
  if (flag == "-m") {
    options.model = value;
  } else if (flag == "-p") {
    options.prompt = number(flag, value);
  } else if (flag == "-n") {
    options.decode = number(flag, value);
  } else if (flag == "-t") {
    options.threads = std::max(number(flag, value), 1);
  } else if (flag == "--seed") {
    options.seed = number(flag, value);
  } else if (flag == "--repack") {
    options.repack = on_or_off(flag, value);
  } else if (flag == "--mmap") {
    options.mmap = on_or_off(flag, value);
  } else if (flag == "--flash-attention") {
    options.flash_attention = on_or_off(flag, value)
        ? LLAMA_FLASH_ATTN_TYPE_ENABLED
        : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  } else {
    throw std::invalid_argument(flag + ": is no option");
  }
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    if (i + 1 == count) {
      throw std::invalid_argument(std::string(words[i]) + ": needs a value");
    }
    set(options, words[i], words[i + 1]);
  }
  if (options.model.empty()) {
    throw std::invalid_argument("-m FILE.gguf is missing");
  }
  return options;
}

// What this process has made the block device read.
int64_t device_bytes() {
  std::ifstream file("/proc/self/io");
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == "read_bytes:") {
      return value;
    }
  }
  return 0;
}

long major_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_majflt;
}

// One phase: runs from its construction to report().
class Phase {
 public:
  explicit Phase(const char* name) : name_(name) {}

  void report(int tokens) const {
    const std::chrono::duration<double> time = Clock::now() - start_;
    std::printf(
        "{\"phase\": \"%s\", \"seconds\": %.6f, \"tokens\": %d, "
        "\"bytes_read\": %lld, \"major_faults\": %ld}\n",
        name_,
        time.count(),
        tokens,
        static_cast<long long>(device_bytes() - bytes_),
        major_faults() - faults_);
    std::fflush(stdout);
  }

 private:
  using Clock = std::chrono::steady_clock;
  const char* name_;
  Clock::time_point start_ = Clock::now();
  int64_t bytes_ = device_bytes();
  long faults_ = major_faults();
};

class Run {
 public:
  explicit Run(const Options& options)
      : options_(options), random_(options.seed) {
    const Phase load("load");
    llama_model_params model_params = llama_model_default_params();
    model_params.use_extra_bufts = options.repack;
    model_params.load_mode =
        options.mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    model_ = llama_model_load_from_file(options.model.c_str(), model_params);
    if (model_ == nullptr) {
      throw std::runtime_error(options.model + ": llama.cpp cannot load it");
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = options.prompt + options.decode + 1;
    params.n_threads = params.n_threads_batch = options.threads;
    params.n_outputs_max = 1; // no buffer for logits that nobody asks for
    params.no_perf = true;
    params.flash_attn_type = options.flash_attention;
    context_ = llama_init_from_model(model_, params);
    if (context_ == nullptr) {
      throw std::runtime_error("llama.cpp cannot make a context");
    }
    vocabulary_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    load.report(0);
  }

  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  ~Run() {
    llama_free(context_);
    llama_model_free(model_);
  }

  // Reads `count` random tokens, in batches as large as llama.cpp's default.
  void read(int count) {
    if (count == 0) {
      return;
    }
    const Phase phase("prefill");
    const int batch = static_cast<int>(llama_n_batch(context_));
    for (int done = 0; done < count; done += batch) {
      step(std::min(batch, count - done));
    }
    best_token();
    phase.report(count);
  }

  void decode(int count) {
    if (count == 0) {
      return;
    }
    const Phase phase("decode");
    for (int i = 0; i < count; ++i) {
      step(1);
    }
    phase.report(count);
  }

 private:
  void step(int count) {
    std::uniform_int_distribution<llama_token> draw(0, vocabulary_ - 1);
    std::vector<llama_token> tokens(count);
    for (llama_token& token : tokens) {
      token = draw(random_);
    }
    if (llama_decode(context_, llama_batch_get_one(tokens.data(), count))) {
      throw std::runtime_error("llama_decode failed");
    }
    llama_synchronize(context_);
  }

  // A reader of the answer would have it now.
  llama_token best_token() const {
    const float* logits = llama_get_logits_ith(context_, -1);
    return static_cast<llama_token>(
        std::max_element(logits, logits + vocabulary_) - logits);
  }

  Options options_;
  std::mt19937 random_;
  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  int vocabulary_ = 0;
};

void print_warnings(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
    std::fputs(text, stderr);
  }
}

} // namespace

int main(int count, char** words) {
  try {
    const Options options = parse(count, words);
    llama_log_set(print_warnings, nullptr);
    llama_backend_init();
    Run run(options);
    run.read(options.prompt);
    run.decode(options.decode);
    return 0;
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "llama_bench: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_bench: %s\n", error.what());
    return 1;
  }
}
