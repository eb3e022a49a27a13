// SPDX-License-Identifier: MIT
// The formats that name an operation's pages in ascending order, run by run.
#ifndef VBALLOON_SRC_GUEST_RUN_REPORTERS_H_
#define VBALLOON_SRC_GUEST_RUN_REPORTERS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "guest/named_pages.h"
#include "guest/page_reporter.h"
#include "vballoon/page_range.h"
#include "wire/page_bitmap.h"
#include "wire/single_header.h"

namespace vballoon::sim {

// Each contiguous run one descriptor; the ring is kicked when it is full or all is said.
class ChunkReporter final : public PageReporter {
 public:
  void add(PageRange pages) override { pages_.add(pages); }
  [[nodiscard]] bool post(DriverQueue& queue, std::uint64_t token) override;
  void recall(std::uint64_t token) override { pages_.add(sent_[token - first_token_]); }

 private:
  NamedPages pages_;
  std::vector<PageRange> sent_;  // the buffers of the last message
  std::uint64_t first_token_ = 0;
};

// Those whose message lies in a buffer.
class AscendingReporter : public MessageReporter {
 public:
  void add(PageRange pages) final { pages_.add(pages); }

 protected:
  explicit AscendingReporter(DmaBuffer buffer, std::uint32_t header_bytes = 0)
      : MessageReporter(buffer, header_bytes) {}

  NamedPages pages_;
};

// One bitmap behind one header for each window of as many pages as the buffer has bits; windows
// follow one another from the first word of the lowest page on, and empty ones are not sent.
class SingleHeaderReporter final : public AscendingReporter {
 public:
  explicit SingleHeaderReporter(DmaBuffer buffer) : AscendingReporter(buffer) {}

  [[nodiscard]] PageRange windows() const override { return pages_.windows(window_pages()); }

 private:
  // As many as there are bits behind the header.
  [[nodiscard]] std::uint64_t window_pages() const {
    return (buffer().size() - kSingleHeaderBytes) * 8;
  }
  [[nodiscard]] std::size_t write_message() override;
};

// As many ranges as the buffer has room for, behind a header.
class RangeListReporter final : public AscendingReporter {
 public:
  explicit RangeListReporter(DmaBuffer buffer) : AscendingReporter(buffer, kBitmapHeaderBytes) {}

 private:
  [[nodiscard]] std::size_t write_message() override;
};

// As many chunks as the buffer has room for.
class PageChunksReporter final : public AscendingReporter {
 public:
  explicit PageChunksReporter(DmaBuffer buffer) : AscendingReporter(buffer) {}

 private:
  [[nodiscard]] std::size_t write_message() override;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_RUN_REPORTERS_H_
