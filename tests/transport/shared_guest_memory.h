// SPDX-License-Identifier: MIT
// Guest memory in a file that is shared with a back end. The guest's addresses, those of the front
// end and places in the file are all different, so that none can stand for another.
#ifndef VBALLOON_TESTS_TRANSPORT_SHARED_GUEST_MEMORY_H_
#define VBALLOON_TESTS_TRANSPORT_SHARED_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon::testing {

struct SharedRegion {
  std::uint64_t guest = 0;
  std::uint64_t bytes = 0;
  std::uint64_t user = 0;    // of the front end; nothing is mapped there
  std::uint64_t offset = 0;  // in the file
};

// Pages [0, 0x400) and [0x800, 0xC00) exist, and lie in the file the other way round.
class SharedGuestMemory {
 public:
  static constexpr std::uint64_t kMiB = 1 << 20;
  static constexpr SharedRegion kLow{0, 4 * kMiB, 0x7000'0000'0000, 6 * kMiB};
  static constexpr SharedRegion kHigh{8 * kMiB, 4 * kMiB, 0x3000'0010'0000, 1 * kMiB};
  static constexpr std::uint64_t kFileBytes = 11 * kMiB;

  SharedGuestMemory();
  SharedGuestMemory(const SharedGuestMemory&) = delete;
  SharedGuestMemory& operator=(const SharedGuestMemory&) = delete;
  ~SharedGuestMemory();

  [[nodiscard]] int fd() const { return file_.get(); }
  // As the guest sees it.
  [[nodiscard]] const std::shared_ptr<const GuestMemory>& guest() const { return guest_; }
  [[nodiscard]] static std::vector<SharedRegion> regions() { return {kLow, kHigh}; }
  // Where the front end has what the guest has there.
  [[nodiscard]] static std::uint64_t user_address(std::uint64_t guest_address);
  // A region that begins so far inside another one.
  [[nodiscard]] static SharedRegion part(const SharedRegion& of, std::uint64_t from,
                                         std::uint64_t bytes) {
    return {of.guest + from, bytes, of.user + from, of.offset + from};
  }

  // Makes every page resident, with its number in it.
  void fill();
  // Bytes of the file that are in memory.
  [[nodiscard]] std::uint64_t resident_bytes() const;
  // Whether fill() has left its number in a page.
  [[nodiscard]] bool has_its_number(Pfn pfn) const;
  [[nodiscard]] bool is_zero(Pfn pfn) const;

 private:
  [[nodiscard]] std::uint64_t& first_word(Pfn pfn) const;

  UniqueFd file_;
  std::byte* mapping_ = nullptr;
  std::shared_ptr<const GuestMemory> guest_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_TRANSPORT_SHARED_GUEST_MEMORY_H_
