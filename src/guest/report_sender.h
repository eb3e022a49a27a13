// SPDX-License-Identifier: MIT
// The driver's side of the reporting queue (virtio 1.3, section 5.5.6.7): one report at a time, and
// its blocks stay out of the allocator until the device has answered.
#ifndef VBALLOON_SRC_GUEST_REPORT_SENDER_H_
#define VBALLOON_SRC_GUEST_REPORT_SENDER_H_

#include <chrono>
#include <cstddef>
#include <vector>

#include "ring/driver_queue.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/sim/page_reporting.h"

namespace vballoon::sim {

class ReportSender {
 public:
  // Both must outlive this. A report has no more blocks than the queue has entries.
  ReportSender(DriverQueue& queue, PageAllocator& allocator, PageReportingOptions options);

  struct Progress {
    bool kick = false;  // the device wants one
    ReportingWait wait;
  };
  // Does all that can be done now.
  [[nodiscard]] Progress step(std::chrono::nanoseconds now);

  // The queue was reset: a report that the device has not answered is sent again, to another queue.
  void queue_was_reset();
  void use(DriverQueue& queue) { queue_ = &queue; }

  [[nodiscard]] std::size_t largest_report() const { return largest_report_; }
  [[nodiscard]] const PageReporting& core() const { return core_; }

 private:
  [[nodiscard]] bool answered();

  DriverQueue* queue_;
  const std::size_t largest_report_;  // in blocks
  PageReporting core_;
  bool sent_ = false;
  std::vector<GuestBuffer> buffers_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_REPORT_SENDER_H_
