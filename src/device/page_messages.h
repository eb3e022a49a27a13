// SPDX-License-Identifier: MIT
// The messages of one queue that names pages: those that are being read, the batch that came of
// them, and how far that has been dealt with.
//
// Both the reading and the dealing can be left in the middle, when the work of a turn is done.
#ifndef VBALLOON_SRC_DEVICE_PAGE_MESSAGES_H_
#define VBALLOON_SRC_DEVICE_PAGE_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/page_ranges.h"
#include "device/message_reader.h"
#include "vballoon/balloon_device.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon {

class PageMessages {
 public:
  // `memory` must outlive this, or its use. Takes a usable policy.
  explicit PageMessages(const GuestMemory& memory, HugePagePolicy policy = HugePagePolicy::kSplit) {
    use(memory, policy);
  }
  // What follows is about another memory.
  void use(const GuestMemory& memory, HugePagePolicy policy);

  MessageReader reader;
  // The message that `reader` stands in, or that is to be begun.
  std::optional<DescriptorChain> current;
  std::vector<DescriptorChain> read;  // to be answered when the batch has been dealt with
  // How far the message that comes next was read before it was put back.
  std::optional<MessagePlace> resume;

  // There are ranges that have not been dealt with.
  [[nodiscard]] bool pending() { return dealt_ < reader.batch().size(); }
  // Puts the batch in order, unless that was done; returns how many pages were named again.
  std::uint64_t order();
  // The next ranges of the batch, of at most `pages` pages of guest memory (but a whole huge
  // page that must not be split, however large, and what is named outside, which costs nothing).
  // They are dealt with by that. Requires pending() and order(). Valid until the next call.
  [[nodiscard]] std::span<const PageRange> next_portion(std::uint64_t pages);
  void clear_batch();
  // Forgets what was read, and reads no more of the message that is current; it stays unanswered,
  // as those that were read do.
  void forget_pages();

  // A message has been begun and its chain not been returned.
  [[nodiscard]] bool unanswered() const { return current || resume || !read.empty(); }
  // For saving a device, between two turns. The message that is being read goes back into its queue
  // and is taken again; those that were read stay held.
  void put_back();
  // The ranges that have not been dealt with. Requires order() if pending().
  [[nodiscard]] PageRanges left();
  // Goes on with what another device had left, in order.
  void restore(std::span<const PageRange> left, std::optional<MessagePlace> place,
               std::vector<DescriptorChain> held);

  // Forgets everything; chains that are held go back unanswered, if their queue still runs.
  void drop();

 private:
  [[nodiscard]] Pfn cut_in(PageRange range, std::uint64_t pages) const;

  const GuestMemory* memory_ = nullptr;
  HugePagePolicy policy_ = HugePagePolicy::kSplit;
  std::size_t dealt_ = 0;
  std::optional<PageRange> rest_;  // of the range at `dealt_`, whose beginning was given out
  bool ordered_ = false;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_PAGE_MESSAGES_H_
