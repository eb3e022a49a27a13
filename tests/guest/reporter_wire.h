// SPDX-License-Identifier: MIT
// A queue that reporters of pages post on, and what a device reads there. Page numbers go far
// beyond the memory of the test: a reporter only names pages.
#ifndef VBALLOON_TESTS_GUEST_REPORTER_WIRE_H_
#define VBALLOON_TESTS_GUEST_REPORTER_WIRE_H_

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "guest/decoded_message.h"
#include "guest/page_reporter.h"
#include "guest/published_messages.h"
#include "ring/driver_queue.h"
#include "wire/dialect.h"
#include "wire/page_bitmap.h"

namespace vballoon::testing {

inline constexpr std::uint64_t kReportedPages = 4 * kBitmapWindowPages;  // 4 GiB of page numbers

// A queue with a device on its other end, and a message buffer.
struct ReporterWire {
  explicit ReporterWire(std::uint16_t queue_size = 256) : layout(lay_out_ring(queue_size, 0)) {
    queue = DriverQueue::create(memory, layout.config).value();
    if (!device.start(memory, layout.config)) throw std::runtime_error("queue does not start");
  }

  // Posts until all is named; the messages of each round.
  std::vector<std::vector<DecodedMessage>> rounds(sim::PageReporter& reporter, Codec codec) {
    std::vector<std::vector<DecodedMessage>> all;
    while (reporter.post(*queue, 0)) {
      (void)queue->publish();
      auto& round = all.emplace_back();
      while (auto chain = device.pop().value()) {
        round.push_back(decode_message(codec, 0, *chain));
        chain->complete();
      }
      (void)device.publish();
      while (queue->take_used()) {
      }
    }
    return all;
  }
  std::vector<DecodedMessage> messages(sim::PageReporter& reporter, Codec codec) {
    std::vector<DecodedMessage> all;
    for (auto& round : rounds(reporter, codec)) {
      std::ranges::move(round, std::back_inserter(all));
    }
    return all;
  }

  static constexpr std::uint64_t kBuffer = 0x20000;
  std::shared_ptr<const GuestMemory> memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  sim::DmaBuffer buffer{kBuffer,
                        {memory->host(kBuffer, kBitmapHeaderBytes + kBitmapDataBytes),
                         kBitmapHeaderBytes + kBitmapDataBytes}};
  RingLayout layout;
  std::unique_ptr<DriverQueue> queue;
  DeviceQueue device;
};

inline void add_pages(sim::PageReporter& reporter, std::initializer_list<PageRange> ranges) {
  for (const PageRange& range : ranges) {
    for (Pfn page = range.first; page < range.end(); ++page) reporter.add({page, 1});
  }
}

// Pages of some operations, each within a few windows and clustered so that runs occur.
inline std::set<Pfn> any_pages() {
  std::set<Pfn> pages;
  for (const Pfn base : *rc::gen::container<std::vector<Pfn>>(rc::gen::oneOf(
           rc::gen::inRange<Pfn>(0, 300), rc::gen::inRange<Pfn>(0, kReportedPages - 200),
           rc::gen::inRange<Pfn>(kBitmapWindowPages - 70, kBitmapWindowPages + 70)))) {
    const Pfn count = *rc::gen::inRange<Pfn>(1, 200);
    for (Pfn page = base; page < base + count; ++page) pages.insert(page);
  }
  return pages;
}

// The same, and more of them than one message names, some apart from each other.
inline std::set<Pfn> many_pages() {
  std::set<Pfn> pages = any_pages();
  const Pfn step = *rc::gen::element<Pfn>(1, 2, 3, 63, 64, 65, 200);
  const Pfn first = *rc::gen::inRange<Pfn>(0, kReportedPages / 2);
  const Pfn count = *rc::gen::inRange<Pfn>(1, 6000);
  for (Pfn i = 0; i < count && first + i * step < kReportedPages; ++i) {
    pages.insert(first + i * step);
  }
  return pages;
}

inline PageRanges ranges_of(const std::set<Pfn>& pages) {
  PageRanges ranges;
  for (const Pfn page : pages) ranges.push_back({page, 1});
  return merged(std::move(ranges));
}

inline void names_exactly_what_was_added(sim::PageReporter& reporter, ReporterWire& wire,
                                         Codec codec) {
  for (int operation = 0; operation < 3; ++operation) {
    const auto pages = any_pages();
    for (const Pfn page : pages) reporter.add({page, 1});
    RC_ASSERT(pages_of(wire.messages(reporter, codec)) == ranges_of(pages));
  }
}

inline std::vector<std::vector<std::byte>> payloads_of(
    const std::vector<DecodedMessage>& messages) {
  std::vector<std::vector<std::byte>> payloads;
  for (const DecodedMessage& message : messages) payloads.push_back(message.payload);
  return payloads;
}

// Two operations; in each some pages are new, and those of the ones before are added again where
// they lie in its windows. `published` gives the messages for a set of pages.
template <typename Published>
void names_again_as_published(sim::PageReporter& reporter, ReporterWire& wire, Codec codec,
                              std::uint64_t window_pages, Published published) {
  std::set<Pfn> old;
  for (int operation = 0; operation < 2; ++operation) {
    const auto fresh = any_pages();
    RC_PRE(!fresh.empty());
    for (const Pfn page : fresh) reporter.add({page, 1});
    const PageRange windows = reporter.windows();
    for (const Pfn page : old) {
      if (page >= windows.first && page < windows.end()) reporter.add({page, 1});
    }
    const auto sent = payloads_of(wire.messages(reporter, codec));
    RC_ASSERT(sent == published(published_inflate(fresh, old, window_pages)));
    old.insert(fresh.begin(), fresh.end());
  }
}

// Messages of which a device loses some buffers, all or none, and answers the others.
inline void names_again_what_was_lost(sim::PageReporter& reporter, ReporterWire& wire,
                                      Codec codec) {
  const auto pages = any_pages();
  for (const Pfn page : pages) reporter.add({page, 1});
  std::vector<DecodedMessage> answered;
  for (std::uint64_t token = 1; reporter.post(*wire.queue, token);) {
    (void)wire.queue->publish();
    std::uint64_t next = token;
    while (auto chain = wire.device.pop().value()) {
      if (*rc::gen::weightedElement<bool>({{1, true}, {3, false}})) {
        reporter.recall(next);
      } else {
        answered.push_back(decode_message(codec, 0, *chain));
      }
      ++next;
      chain->complete();
    }
    token = next;
    (void)wire.device.publish();
    while (wire.queue->take_used()) {
    }
  }
  RC_ASSERT(pages_of(answered) == ranges_of(pages));
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_REPORTER_WIRE_H_
