// SPDX-License-Identifier: MIT
// The standard's format: an array of 32-bit page frame numbers (virtio 1.3, section 5.5.6).
//
// One device-readable buffer of le32 numbers in units of 4 KiB; Linux sends at most 256, others
// more. A trailing part of an entry is kPayloadNotMultiple; the entries before it hold.
//
// The Windows driver writes its own 64-bit numbers instead: read as 32-bit ones they would name
// page 0 with every other entry. A decoder that expects that takes a message of up to one window in
// which all odd words are 0 for one of 64-bit entries.
#ifndef VBALLOON_SRC_WIRE_PFN_ARRAY_H_
#define VBALLOON_SRC_WIRE_PFN_ARRAY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/page_ranges.h"
#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

inline constexpr std::size_t kPfnEntryBytes = 4;
inline constexpr std::size_t kLinuxPfnsPerMessage = 256;

// Writes page numbers into a buffer until it is full.
class VBALLOON_EXPORT PfnArrayEncoder {
 public:
  explicit PfnArrayEncoder(std::span<std::byte> buffer) : buffer_(buffer) {}

  // Appends one page; false when the buffer is full. Requires pfn < 2^32.
  [[nodiscard]] bool append(Pfn pfn);

  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  void clear() { bytes_ = 0; }

 private:
  std::span<std::byte> buffer_;
  std::size_t bytes_ = 0;
};

// Appends the pages that the whole entries of `window` name; returns the bytes of those. For the
// formats that carry such an array within something else.
std::size_t decode_pfns(std::span<const std::byte> window, PageRanges& out);

class VBALLOON_EXPORT PfnArrayDecoder final : public PayloadDecoder {
 public:
  explicit PfnArrayDecoder(bool may_be_wide)
      : PayloadDecoder(0, Errc::kPayloadNotMultiple), may_be_wide_(may_be_wide) {}

 private:
  std::optional<Errc> read_header(std::span<const std::byte> header,
                                  std::uint64_t data_bytes) override;
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;

  const bool may_be_wide_;
  std::uint64_t message_bytes_ = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_PFN_ARRAY_H_
