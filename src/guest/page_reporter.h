// SPDX-License-Identifier: MIT
// Names the pages of one resize operation to the device, message by message: one class a format.
#ifndef VBALLOON_SRC_GUEST_PAGE_REPORTER_H_
#define VBALLOON_SRC_GUEST_PAGE_REPORTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/page_set.h"
#include "ring/driver_queue.h"
#include "vballoon/guest_memory.h"
#include "vballoon/sim/page_allocator.h"
#include "wire/page_bitmap.h"
#include "wire/pfn_array.h"

namespace vballoon::sim {

class PageReporter {
 public:
  virtual ~PageReporter() = default;

  // The most pages of one operation, and the largest block worth taking.
  [[nodiscard]] virtual std::uint64_t max_pages() const = 0;
  [[nodiscard]] virtual unsigned max_order() const { return 0; }

  // Adds pages to the operation.
  virtual void add(Block block) = 0;

  // Puts the next message on the queue, which has room for it, its buffers with tokens that count
  // from this one on; false when all pages have been named. The operation is then over and the
  // reporter empty.
  [[nodiscard]] virtual bool post(DriverQueue& queue, std::uint64_t token) = 0;

  // A buffer of the last message, by its token, was lost and not answered: the next post() names
  // its pages again.
  virtual void recall(std::uint64_t token) = 0;
};

// A message buffer in guest memory.
struct DmaBuffer {
  std::uint64_t address = 0;  // guest-physical
  std::span<std::byte> bytes;
};

// Arrays of as many page numbers as the buffer holds, in the order in which they were added. As
// 64-bit numbers they are two entries each, of which the second is 0.
class PfnReporter final : public PageReporter {
 public:
  explicit PfnReporter(DmaBuffer buffer, bool wide = false)
      : buffer_(buffer), wide_(wide), encoder_(buffer.bytes) {}

  [[nodiscard]] std::uint64_t max_pages() const override {
    return buffer_.bytes.size() / kPfnEntryBytes / (wide_ ? 2 : 1);
  }
  void add(Block block) override;
  [[nodiscard]] bool post(DriverQueue& queue, std::uint64_t token) override;
  void recall(std::uint64_t /*token*/) override { again_ = true; }

 private:
  DmaBuffer buffer_;
  const bool wide_;
  PfnArrayEncoder encoder_;
  std::size_t sent_bytes_ = 0;  // of the last message
  bool again_ = false;          // which is to be sent again
};

// The page bitmap, in windows of 1 GiB; page numbers when there are but a few.
class BitmapReporter final : public PageReporter {
 public:
  // `buffer` holds the header and kBitmapDataBytes behind it. Pages lie below `pages`.
  BitmapReporter(DmaBuffer buffer, std::uint64_t pages, std::uint64_t pfn_threshold_pages);

  [[nodiscard]] std::uint64_t max_pages() const override { return UINT64_MAX; }
  void add(Block block) override;
  [[nodiscard]] bool post(DriverQueue& queue, std::uint64_t token) override;
  void recall(std::uint64_t /*token*/) override { again_ = true; }

 private:
  [[nodiscard]] bool write_message();
  [[nodiscard]] std::size_t write_page_numbers(std::span<std::byte> data);
  [[nodiscard]] std::size_t write_records(std::span<std::byte> data);
  void write_header(BitmapCommand command, std::size_t data_bytes);

  DmaBuffer buffer_;
  std::uint64_t pfn_threshold_pages_;
  PageSet pages_;            // named in this operation
  std::uint64_t count_ = 0;  // pages in it
  Pfn lowest_ = UINT64_MAX;  // bounds of the pages in it
  Pfn highest_ = 0;
  Pfn window_ = 0;  // first page of the window in progress
  Pfn window_end_ = 0;
  std::optional<PageBitmapEncoder> encoder_;  // of the window
  std::uint32_t data_bytes_ = 0;              // of the last message
  bool again_ = false;                        // which is to be sent again
};

// Each contiguous run one descriptor; the ring is kicked when it is full or all is said.
class ChunkReporter final : public PageReporter {
 public:
  ChunkReporter(std::uint64_t pages, unsigned max_order) : pages_(pages), max_order_(max_order) {}

  [[nodiscard]] std::uint64_t max_pages() const override { return UINT64_MAX; }
  [[nodiscard]] unsigned max_order() const override { return max_order_; }
  void add(Block block) override { add_range(block.pages()); }
  [[nodiscard]] bool post(DriverQueue& queue, std::uint64_t token) override;
  void recall(std::uint64_t token) override { add_range(sent_[token - first_token_]); }

 private:
  void add_range(PageRange pages);

  PageSet pages_;
  unsigned max_order_;
  Pfn lowest_ = UINT64_MAX;
  Pfn highest_ = 0;
  std::vector<PageRange> sent_;  // the buffers of the last message
  std::uint64_t first_token_ = 0;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_PAGE_REPORTER_H_
