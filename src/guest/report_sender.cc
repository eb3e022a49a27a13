// SPDX-License-Identifier: MIT
#include "guest/report_sender.h"

#include <algorithm>
#include <cstdint>

namespace vballoon::sim {
namespace {

PageReportingOptions with_capacity(PageReportingOptions options, std::size_t blocks) {
  options.capacity = blocks;
  return options;
}

}  // namespace

ReportSender::ReportSender(DriverQueue& queue, PageAllocator& allocator,
                           PageReportingOptions options)
    : queue_(&queue),
      largest_report_(std::min<std::size_t>(options.capacity, queue.size())),
      core_(allocator, with_capacity(options, largest_report_)) {
  buffers_.reserve(kMaxReportBlocks);
}

// Whether the report is back. If not, an interrupt will come.
bool ReportSender::answered() {
  do {
    if (queue_->take_used()) return true;
  } while (queue_->enable_interrupts());
  return false;
}

void ReportSender::queue_was_reset() {
  if (sent_ && queue_->take_used()) core_.answered(true);
  sent_ = false;
}

ReportSender::Progress ReportSender::step(std::chrono::nanoseconds now) {
  for (;;) {
    if (sent_) {
      if (!answered()) return {false, {ReportingWait::Kind::kAnswer, {}}};
      sent_ = false;
      core_.answered(true);
    }
    const ReportingWait wait = core_.step(now);
    if (wait.kind != ReportingWait::Kind::kAnswer) return {false, wait};
    buffers_.clear();
    for (const Block& block : core_.batch()) {
      const PageRange pages = block.pages();
      buffers_.push_back({pages.first << kPageShift, static_cast<std::uint32_t>(pages.bytes())});
    }
    if (!queue_->add({}, buffers_, 0)) {
      core_.answered(false);
      continue;
    }
    sent_ = true;
    if (queue_->publish()) return {true, wait};
  }
}

}  // namespace vballoon::sim
