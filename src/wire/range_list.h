// SPDX-License-Identifier: MIT
// A list of page ranges, as a later form of the page bitmap had it (never merged into Linux).
//
// A message is the 8-byte header of page_bitmap.h, with command 0, and data behind it: for each
// range one le64, its first page << 12 | its number of pages, or, from 4096 pages on, two: the
// first page << 12, and the number. As published 4096 pages were written as one, which overflowed
// into the page; here as two.
#ifndef VBALLOON_SRC_WIRE_RANGE_LIST_H_
#define VBALLOON_SRC_WIRE_RANGE_LIST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

// Writes the data of one message.
class VBALLOON_EXPORT RangeListEncoder {
 public:
  explicit RangeListEncoder(std::span<std::byte> data) : data_(data) {}

  // False when there is no room left for any range. Requires run.count != 0 and pages below 2^52.
  [[nodiscard]] bool append(PageRange run);

  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::span<std::byte> data_;
  std::size_t bytes_ = 0;
};

class VBALLOON_EXPORT RangeListDecoder final : public PayloadDecoder {
 public:
  RangeListDecoder();

 private:
  std::optional<Errc> read_header(std::span<const std::byte> header,
                                  std::uint64_t data_bytes) override;
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_RANGE_LIST_H_
