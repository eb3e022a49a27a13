// SPDX-License-Identifier: MIT
// The source's end of a migration's stream, with the speed of a network.
#ifndef VBALLOON_TOOLS_MIGRATE_LINK_H_
#define VBALLOON_TOOLS_MIGRATE_LINK_H_

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/page_set.h"
#include "vballoon/guest_memory.h"

namespace vballoon::tool {

// What the destination has when all has arrived.
struct Arrival {
  std::uint64_t pages = 0;  // each as often as it came
  bool restored = false;    // the device goes on there
  PageSet ballooned;        // by dense index
};

class MigrationLink {
 public:
  // Sends at most `bandwidth` bytes a second. `keep_going` is asked now and then, also while the
  // destination is slow. The socket is that of a Destination.
  MigrationLink(int socket, std::optional<std::uint64_t> bandwidth,
                std::function<bool()> keep_going);

  // Sends pages of a region as they are now, counted from its first. False when told to stop, or
  // when the link has failed.
  [[nodiscard]] bool send_pages(const MemoryRegion& region, PageRange pages);
  // Sends the device and waits for the answer, which comes when the destination has all of it;
  // `pages` are those of guest memory.
  [[nodiscard]] std::optional<Arrival> finish(std::span<const std::byte> device,
                                              std::uint64_t pages);

  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }
  // Why it failed; empty when it did not.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] bool send(std::span<iovec> pieces);
  [[nodiscard]] bool receive(std::span<std::byte> into);
  [[nodiscard]] bool go_on_after(int error, Clock::time_point last_progress);
  [[nodiscard]] bool wait_for_the_wire(std::uint64_t bytes);

  const int socket_;
  const std::optional<std::uint64_t> bandwidth_;
  const std::function<bool()> keep_going_;
  Clock::time_point free_at_{};  // when the wire has taken what was sent
  std::uint64_t bytes_sent_ = 0;
  std::string failure_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_LINK_H_
