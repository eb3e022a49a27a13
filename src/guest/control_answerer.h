// SPDX-License-Identifier: MIT
// The driver's side of the control queue (wire/guest_request.h): on START it names all free blocks
// over the queue for free pages, the largest first, and says STOP at the end.
//
// Never blocks: a full ring ends a step. The published driver went through its memory in one go and
// left out each block for which the ring had no room at that moment. Buffers for commands are
// posted twice, so that one is left to a guest that was migrated with the other in the hands of a
// host that is no more.
#ifndef VBALLOON_SRC_GUEST_CONTROL_ANSWERER_H_
#define VBALLOON_SRC_GUEST_CONTROL_ANSWERER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "guest/free_block_walk.h"
#include "guest/page_reporter.h"
#include "ring/driver_queue.h"
#include "vballoon/sim/page_allocator.h"
#include "wire/guest_request.h"

namespace vballoon::sim {

class ControlAnswerer {
 public:
  // Of two commands that come and one that goes.
  static constexpr std::size_t kBufferBytes = 3 * kControlBytes;
  // The control queue needs as many entries.
  static constexpr std::size_t kDescriptors = 3;

  // All must outlive this; the buffer has kBufferBytes. `kick_pages` kicks the queue for pages.
  // `skips` blocks, as published.
  ControlAnswerer(DriverQueue& control, DriverQueue& pages, DmaBuffer buffer,
                  PageAllocator& allocator, bool skips, std::function<void()> kick_pages);

  // Posts a buffer for commands. True when the device wants a kick.
  [[nodiscard]] bool post();
  struct Progress {
    bool kick = false;   // the device wants one of the control queue
    bool waits = false;  // for the device to use buffers of free pages
  };
  // Does all that can be done now.
  [[nodiscard]] Progress step();

  // The control queue was reset, or that for pages, whose blocks need no answer.
  void control_was_reset();
  void use_control(DriverQueue& queue) { control_ = &queue; }
  void use_pages(DriverQueue& queue);

  [[nodiscard]] std::uint64_t skipped_blocks() const { return skipped_blocks_; }

 private:
  static constexpr std::size_t kCommandsIn = 2;
  static constexpr std::uint64_t kStopToken = kCommandsIn;  // those before are commands that come

  [[nodiscard]] std::uint64_t address_of(std::uint64_t token) const {
    return buffer_.address + token * kControlBytes;
  }
  void take_commands();
  void post_command(bool also_second);
  [[nodiscard]] bool name_free_blocks();
  [[nodiscard]] bool has_room();
  void name(const Block& block);
  void say_stop();

  DriverQueue* control_;
  DriverQueue* pages_;
  const DmaBuffer buffer_;
  PageAllocator& allocator_;
  const bool skips_;
  const std::function<void()> kick_pages_;

  std::array<bool, kCommandsIn + 1> out_{};  // by token: the device has it
  // Where it stands in the round, if there is one.
  std::optional<FreeBlockWalk> walk_;
  unsigned order_ = 0;
  std::uint64_t skipped_blocks_ = 0;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_CONTROL_ANSWERER_H_
