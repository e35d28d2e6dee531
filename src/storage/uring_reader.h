// Reads with io_uring: no threads, one system call for many reads, registered
// files, and registered staging blocks where the limit on locked memory allows
// them.
//
// Thread rule: as Reader. Staging is copied out on the thread that waits or
// polls.
#pragma once

#include <functional>
#include <memory>

#include "platform/direct_file.h"
#include "storage/reader.h"

namespace mlx_flash {

// What tests put before each submission: 0, or -errno for a submission that
// the kernel refuses.
using UringRefusal = std::function<int()>;

// Null, with the reason in `refused`, where the kernel or a sandbox refuses
// io_uring or the build has none. `files` is then as it was. A ring that the
// kernel refuses later is given up: the reads go on with
// pread, one by one and while the caller waits.
std::unique_ptr<Reader> make_uring_reader(
    std::vector<DirectFile>& files,
    const ReaderOptions& options,
    std::string& refused,
    UringRefusal refusal = {});

} // namespace mlx_flash
