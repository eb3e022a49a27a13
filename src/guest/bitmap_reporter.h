// SPDX-License-Identifier: MIT
// The page bitmap, in windows of 1 GiB; page numbers when there are but a few.
#ifndef VBALLOON_SRC_GUEST_BITMAP_REPORTER_H_
#define VBALLOON_SRC_GUEST_BITMAP_REPORTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "guest/named_pages.h"
#include "guest/page_reporter.h"
#include "wire/page_bitmap.h"

namespace vballoon::sim {

class BitmapReporter final : public MessageReporter {
 public:
  // `buffer` holds the header and kBitmapDataBytes behind it.
  BitmapReporter(DmaBuffer buffer, std::uint64_t pfn_threshold_pages);

  void add(PageRange pages) override;
  [[nodiscard]] PageRange windows() const override { return pages_.windows(kBitmapWindowPages); }

 private:
  [[nodiscard]] std::size_t write_message() override;
  [[nodiscard]] std::size_t write_page_numbers(std::span<std::byte> data);
  [[nodiscard]] std::size_t write_records(std::span<std::byte> data);

  std::uint64_t pfn_threshold_pages_;
  NamedPages pages_;
  std::uint64_t count_ = 0;                   // of the pages that were added in this operation
  PageRange window_;                          // the one in progress
  std::optional<PageBitmapEncoder> encoder_;  // of that
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_BITMAP_REPORTER_H_
