// SPDX-License-Identifier: MIT
// Which reporter speaks a dialect, and what it needs.
#ifndef VBALLOON_SRC_GUEST_REPORTERS_H_
#define VBALLOON_SRC_GUEST_REPORTERS_H_

#include <cstdint>
#include <memory>

#include "guest/page_reporter.h"
#include "vballoon/features.h"
#include "vballoon/sim/balloon_driver.h"

namespace vballoon::sim {

struct ReporterNeeds {
  std::uint64_t message_bytes = 0;  // of the buffer that messages are written into
  std::uint16_t descriptors = 1;    // of one message
};

// In a guest whose pages lie below `pages`.
[[nodiscard]] ReporterNeeds reporter_needs(Dialect dialect, std::uint64_t pages,
                                           const DriverOptions& options);
// `message` is of the size above.
[[nodiscard]] std::unique_ptr<PageReporter> make_reporter(Dialect dialect, DmaBuffer message,
                                                          const DriverOptions& options);

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_REPORTERS_H_
