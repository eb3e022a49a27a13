// SPDX-License-Identifier: MIT
// A guest that fills pages when it frees them and looks at them when it takes them.  room: guest
//
// Linux does so with page_poisoning=on (0xaa) and, but for the look, with init_on_free=1 (0). As
// the pages are looked at, it is seen when the host changed a free page to something else, which it
// must not do with VIRTIO_BALLOON_F_PAGE_POISON (virtio 1.3, section 5.5.6).
#ifndef VBALLOON_SIM_PAGE_POISON_H_
#define VBALLOON_SIM_PAGE_POISON_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "vballoon/export.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

inline constexpr std::uint8_t kPagePoisonByte = 0xaa;
inline constexpr std::uint8_t kInitOnFreeByte = 0;

class VBALLOON_EXPORT PagePoison {
 public:
  PagePoison(std::shared_ptr<const GuestMemory> memory, std::uint8_t byte);

  // What the driver writes into poison_val: the byte, four times.
  [[nodiscard]] std::uint32_t value() const { return 0x01010101u * byte_; }

  // Fills pages that are about to be freed; they lie in guest memory, as those of the others do.
  void fill(PageRange freed) const;
  // Fills all that is free, as a booting guest does.
  void fill_free_pages(const PageAllocator& allocator) const;
  // Looks at pages that were just allocated. Each that holds anything but the byte is a violation.
  void check(PageRange allocated);

  [[nodiscard]] std::uint64_t violations() const { return violations_; }
  [[nodiscard]] std::optional<Pfn> last_violation() const { return last_violation_; }

 private:
  std::shared_ptr<const GuestMemory> memory_;
  std::uint8_t byte_;
  std::uint64_t violations_ = 0;
  std::optional<Pfn> last_violation_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_PAGE_POISON_H_
