// What a command's exit code means. Other programs rely on these.
#pragma once

#include "mlx_flash/error.h"

namespace mlx_flash::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1; // failed checks, or our own mistake
inline constexpr int kExitUsage = 2;
inline constexpr int kExitModel = 3;
inline constexpr int kExitBudget = 4;
inline constexpr int kExitIo = 5;
inline constexpr int kExitCancelled = 130;

inline constexpr const char* kExitCodeHelp =
    "Exit codes: 0 done; 1 a check failed, or an internal error; 2 wrong\n"
    "flags or input files; 3 model not found, malformed or not supported;\n"
    "4 does not fit the memory; 5 a read or write failed; 130 cancelled.";

constexpr int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return kExitUsage;
    case ErrorCode::not_found:
    case ErrorCode::bad_model:
    case ErrorCode::unsupported:
      return kExitModel;
    case ErrorCode::out_of_budget:
      return kExitBudget;
    case ErrorCode::io:
      return kExitIo;
    case ErrorCode::cancelled:
      return kExitCancelled;
    case ErrorCode::internal:
      break;
  }
  return kExitFailed;
}

} // namespace mlx_flash::cli
