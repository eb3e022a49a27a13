// SPDX-License-Identifier: MIT
#include "outcome.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace vballoon::tool {

int report_failure(const Error& error) {
  const bool usage = error.code == Errc::kInvalidArgument || error.code == Errc::kTargetTooLarge;
  // What is wrong with an option says so itself.
  fmt::print(stderr, "error: {}\n",
             usage && !error.context.empty() ? error.context : error.message());
  return usage ? kExitUsage : kExitFailed;
}

int report_interrupt() {
  fmt::print(stderr, "interrupted\n");
  return kExitInterrupted;
}

int write_results(const std::string& text, std::FILE* out) {
  if (std::fputs(text.c_str(), out) != EOF && std::fflush(out) == 0) return kExitDone;
  fmt::print(stderr, "error: cannot write the results: {}\n", std::strerror(errno));
  return kExitFailed;
}

}  // namespace vballoon::tool
