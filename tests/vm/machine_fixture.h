// SPDX-License-Identifier: MIT
// A machine of 32 MiB whose memory was touched, and what the kernel says of its pages.
#ifndef VBALLOON_TESTS_VM_MACHINE_FIXTURE_H_
#define VBALLOON_TESTS_VM_MACHINE_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "dialect_param.h"
#include "ring/ring_kind.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/machine.h"
#include "wire/dialect.h"

namespace vballoon::testing {

// How the driver reaches the device.
enum class Transport { kInProcess, kMmio };

using MachineMode = std::tuple<Dialect, sim::NotifyMode, Transport, RingKind>;

inline std::string name_of(const ::testing::TestParamInfo<MachineMode>& mode) {
  const auto& [dialect, notify, transport, ring] = mode.param;
  return name_of(dialect) + (notify == sim::NotifyMode::kDirect ? "_direct" : "_eventfd") +
         (transport == Transport::kMmio ? "_mmio" : "") +
         (ring == RingKind::kPacked ? "_packed" : "");
}

struct MachineRig {
  static constexpr std::uint64_t kPages = 8192;

  explicit MachineRig(Dialect dialect = Dialect::kPageBitmap,
                      sim::NotifyMode notify = sim::NotifyMode::kDirect) {
    options.device.dialect = dialect;
    options.notify = notify;
    // A huge page is whole or gone; these tests count pages of 4 KiB.
    memory = GuestMemory::allocate(std::vector<RegionLayout>{{0, kPages << kPageShift}},
                                   {Backing::kAnonymous, ThpMode::kOff})
                 .value();
    std::byte* const host = memory->regions()[0].host;
    for (std::uint64_t page = 0; page < kPages; ++page) host[page << kPageShift] = std::byte{1};
  }

  // What the device offers and the driver accepts.
  void negotiate(Features features) {
    options.device.features = features;
    options.driver.features = features;
  }
  void start(std::unique_ptr<Discarder> discarder = make_kernel_discarder()) {
    auto started = sim::Machine::start(memory, allocator, std::move(discarder), options);
    if (!started) throw std::runtime_error(started.error().message());
    machine = std::move(*started);
    free_after_start = allocator.free_pages();
  }
  sim::ResizeReport resize(std::uint64_t pages, const std::function<bool()>& keep_going = {}) {
    return machine->resize(pages, keep_going).value();
  }

  // Pages, of all or of those in the balloon, that take memory of the host.
  [[nodiscard]] std::uint64_t resident_pages() const { return resident(0, kPages); }
  [[nodiscard]] std::uint64_t resident_balloon_pages() const {
    std::uint64_t pages = 0;
    machine->driver().for_each_block(
        [&](sim::Block block) { pages += resident(block.first, block.pages().count); });
    return pages;
  }

  std::shared_ptr<const GuestMemory> memory;
  sim::PageAllocator allocator{PageRanges{{0, kPages}}};
  sim::MachineOptions options;
  std::unique_ptr<sim::Machine> machine;
  std::uint64_t free_after_start = 0;

 private:
  [[nodiscard]] std::uint64_t resident(Pfn first, std::uint64_t count) const {
    std::vector<unsigned char> pages(count);
    std::byte* const host = memory->host(first << kPageShift, count << kPageShift);
    if (::mincore(host, count << kPageShift, pages.data()) != 0) {
      throw std::runtime_error("mincore");
    }
    std::uint64_t there = 0;
    for (const unsigned char page : pages) there += page & 1;
    return there;
  }
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_VM_MACHINE_FIXTURE_H_
