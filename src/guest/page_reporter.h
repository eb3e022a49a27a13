// SPDX-License-Identifier: MIT
// Names the pages of one resize operation to the device, message by message: one class a format.
#ifndef VBALLOON_SRC_GUEST_PAGE_REPORTER_H_
#define VBALLOON_SRC_GUEST_PAGE_REPORTER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "ring/driver_queue.h"
#include "vballoon/page_range.h"
#include "wire/cont_pages.h"
#include "wire/pfn_array.h"

namespace vballoon::sim {

class PageReporter {
 public:
  virtual ~PageReporter() = default;

  // How many pages, and how many runs of pages, have room in one operation.
  [[nodiscard]] virtual std::uint64_t max_pages() const { return UINT64_MAX; }
  [[nodiscard]] virtual std::uint64_t max_runs() const { return UINT64_MAX; }
  // The longest run that can be added at once.
  [[nodiscard]] virtual std::uint64_t max_run_pages() const { return UINT64_MAX; }

  // Adds pages to the operation.
  virtual void add(PageRange pages) = 0;

  // The windows, one behind the other, that the pages added so far lie in, where the format has
  // windows and names single pages.
  [[nodiscard]] virtual PageRange windows() const { return {}; }

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

// Writes each message into the buffer and sends it as one chain of one descriptor, or of two when
// it begins with a header that is a descriptor of its own.
class MessageReporter : public PageReporter {
 public:
  [[nodiscard]] bool post(DriverQueue& queue, std::uint64_t token) final;
  void recall(std::uint64_t /*token*/) final { again_ = true; }

 protected:
  explicit MessageReporter(DmaBuffer buffer, std::uint32_t header_bytes = 0)
      : buffer_(buffer), header_bytes_(header_bytes) {}

  [[nodiscard]] std::span<std::byte> buffer() const { return buffer_.bytes; }
  // Writes the next message and says how long it is, its header included; 0 when there is none.
  [[nodiscard]] virtual std::size_t write_message() = 0;

 private:
  DmaBuffer buffer_;
  std::uint32_t header_bytes_;
  std::size_t sent_bytes_ = 0;  // of the last message
  bool again_ = false;          // which is to be sent again
};

// Arrays of as many page numbers as the buffer holds, in the order in which they were added. As
// 64-bit numbers they are two entries each, of which the second is 0.
class PfnReporter final : public MessageReporter {
 public:
  explicit PfnReporter(DmaBuffer buffer, bool wide = false)
      : MessageReporter(buffer), wide_(wide), encoder_(buffer.bytes) {}

  [[nodiscard]] std::uint64_t max_pages() const override {
    return buffer().size() / kPfnEntryBytes / (wide_ ? 2 : 1);
  }
  void add(PageRange pages) override;

 private:
  [[nodiscard]] std::size_t write_message() override;

  const bool wide_;
  PfnArrayEncoder encoder_;
};

// Arrays of as many runs as the buffer holds, in the order in which they were added.
class ContReporter final : public MessageReporter {
 public:
  explicit ContReporter(DmaBuffer buffer) : MessageReporter(buffer), encoder_(buffer.bytes) {}

  [[nodiscard]] std::uint64_t max_runs() const override {
    return buffer().size() / kContEntryBytes;
  }
  [[nodiscard]] std::uint64_t max_run_pages() const override { return kMaxContPages; }
  void add(PageRange pages) override;

 private:
  [[nodiscard]] std::size_t write_message() override;

  ContPagesEncoder encoder_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_PAGE_REPORTER_H_
