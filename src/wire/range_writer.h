// SPDX-License-Identifier: MIT
// Appends many ranges to a vector through a pointer.
//
// push_back() costs more than the rest of decoding a range. A writer makes the vector longer in
// blocks that stay in the first-level cache, and cuts off the unused part when it goes.
#ifndef VBALLOON_SRC_WIRE_RANGE_WRITER_H_
#define VBALLOON_SRC_WIRE_RANGE_WRITER_H_

#include <cstddef>

#include "base/page_ranges.h"
#include "vballoon/page_range.h"

namespace vballoon {

// Nobody else may touch the vector meanwhile. Does not allocate while the vector has room for
// what was asked for.
class RangeWriter {
 public:
  static constexpr std::size_t kBlock = 512;

  explicit RangeWriter(PageRanges& out) : out_(out), begin_(out.size()) {
    next_ = limit_ = out.data() + begin_;
  }
  RangeWriter(const RangeWriter&) = delete;
  RangeWriter& operator=(const RangeWriter&) = delete;
  ~RangeWriter() { out_.resize(used()); }

  // Where the next `ranges` ranges go; commit() says how far they went.
  [[nodiscard]] PageRange* room(std::size_t ranges) {
    if (static_cast<std::size_t>(limit_ - next_) < ranges) grow(ranges);
    return next_;
  }
  void commit(PageRange* next) { next_ = next; }

  // Whether what begins at this page lies behind the last range of this writer, or continues it.
  [[nodiscard]] bool ends_before(Pfn first) const {
    return used() == begin_ || next_[-1].end() <= first;
  }

  // Appends a range, or lengthens the last one of this writer that it continues.
  void append(PageRange range) {
    if (used() > begin_ && next_[-1].end() == range.first) {
      next_[-1].count += range.count;
      return;
    }
    PageRange* to = room(1);
    *to = range;
    commit(to + 1);
  }

 private:
  [[nodiscard]] std::size_t used() const { return static_cast<std::size_t>(next_ - out_.data()); }

  void grow(std::size_t ranges) {
    const std::size_t old = used();
    // More than was asked for only if it costs no allocation.
    const bool spare = out_.capacity() - old >= ranges + kBlock;
    out_.resize(old + ranges + (spare ? kBlock : 0));
    next_ = out_.data() + old;
    limit_ = out_.data() + out_.size();
  }

  PageRanges& out_;
  std::size_t begin_;  // ranges before it are not ours
  PageRange* next_;
  PageRange* limit_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_RANGE_WRITER_H_
