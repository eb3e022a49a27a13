// SPDX-License-Identifier: MIT
// Continuous pages: blocks of memory as page and size (never merged into Linux).
//
// A message is an array of pairs of le32: a page frame number and a size in bytes, a multiple of
// 4 KiB. It goes over queues of its own.
#ifndef VBALLOON_SRC_WIRE_CONT_PAGES_H_
#define VBALLOON_SRC_WIRE_CONT_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

inline constexpr std::size_t kContEntryBytes = 8;
// In a message of the published driver.
inline constexpr std::size_t kContEntriesPerMessage = 128;
// The longest run of one entry: the largest 32-bit size rounded down to a page.
inline constexpr std::uint64_t kMaxContPages = 0xFFFFFFFF >> kPageShift;

class VBALLOON_EXPORT ContPagesEncoder {
 public:
  explicit ContPagesEncoder(std::span<std::byte> message) : message_(message) {}

  // False when the message is full. Requires 1 to kMaxContPages pages, the first below 2^32.
  [[nodiscard]] bool append(PageRange run);

  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  void clear() { bytes_ = 0; }

 private:
  std::span<std::byte> message_;
  std::size_t bytes_ = 0;
};

class VBALLOON_EXPORT ContPagesDecoder final : public PayloadDecoder {
 public:
  ContPagesDecoder() : PayloadDecoder(0, Errc::kPayloadNotMultiple) {}

 private:
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_CONT_PAGES_H_
