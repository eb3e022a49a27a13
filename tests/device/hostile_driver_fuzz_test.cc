// SPDX-License-Identifier: MIT
// A driver that writes at random into rings, payloads and registers, in each dialect, with the
// real kernel below and an oracle: odd pages above kSafe are never named, so they never change.
//
// That holds for whatever the device makes of the bytes, read at any offset: page numbers in
// payloads are even and below 256, so that read across their bounds they are even or far outside;
// bitmaps begin so low that they end below kSafe.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using testing::kAvail;
using testing::kHigh;
using testing::kHole;
using testing::kIndirect;
using testing::kNext;
using testing::kPayloads;
using testing::kRings;
using testing::kUsed;
using testing::kWrite;
using testing::le64;
using testing::RawDescriptor;
using testing::RawPackedDescriptor;
using testing::RawPackedRing;
using testing::RawRing;
using testing::record_head;
using testing::Rig;
using testing::speaking;

constexpr std::uint16_t kSize = 16;
constexpr Pfn kSafe = 0x300;
constexpr std::uint64_t kPoolBytes = 0x10000;
constexpr std::uint64_t kTables = kPayloads + 0x20000;
constexpr std::uint16_t kTableEntries = 64;
constexpr std::byte kPattern{0xEE};

template <typename T>
T any_of(std::vector<T> values) {
  return *rc::gen::elementOf(std::move(values));
}
template <typename T>
T below(T end) {
  return *rc::gen::inRange<T>(0, end);
}

class HostileGuest {
 public:
  explicit HostileGuest(Dialect dialect)
      : dialect_(dialect),
        rig_({.device = speaking(dialect),
              .queue_size = kSize,
              .discarder = make_kernel_discarder()}) {
    const auto fill = [](std::byte* page) { std::fill_n(page, kPageSize, kPattern); };
    for_each_protected_page(fill);
    start();
  }

  void step() {
    switch (*rc::gen::weightedElement<int>(
        {{6, 0}, {6, 1}, {3, 2}, {6, 3}, {1, 4}, {8, 5}, {2, 6}, {1, 7}, {2, 8}})) {
      case 0:
        return write_payload();
      case 1:
        return packed_ ? write_packed_descriptor() : write_split_descriptor();
      case 2:
        return packed_ ? write_packed_table() : write_split_table();
      case 3:
        return packed_ ? packed_ring().append(any_packed_descriptor()) : offer_any_head();
      case 4:
        return packed_ ? write_event() : split_ring().set_avail_index(any_number());
      case 5:
        return process();
      case 6:
        return rig_.device().write_config(
            any_of<std::uint64_t>({0, 3, 4, 6, 8, 1000, ~std::uint64_t{0}}),
            *rc::gen::container<std::vector<std::byte>>(below(9), rc::gen::just(std::byte{0xA5})));
      case 7:
        return rig_.write_status(*rc::gen::arbitrary<std::uint8_t>());
      case 8:
        return restart_if_needed();
    }
  }

  // Whatever happened, a reset and a driver that knows the rules find a device that works.
  void check_at_the_end() {
    rig_.reset();
    start();
    rig_.inflate(testing::message_of(dialect_, {{10, 2}}));
    RC_ASSERT(rig_.completed(kInflateQueue).size() == 1u);
    RC_ASSERT(rig_.device().ballooned_pages() == 2u);
    check();
    const auto unchanged = [](const std::byte* page) {
      RC_ASSERT(std::all_of(page, page + kPageSize, [](std::byte b) { return b == kPattern; }));
    };
    for_each_protected_page(unchanged);
  }

 private:
  template <typename OnPage>
  void for_each_protected_page(OnPage on_page) {
    for (Pfn pfn = kSafe + 1; pfn < kHole; pfn += 2) on_page(rig_.host(pfn));
    for (Pfn pfn = kHigh + 1; pfn < kRings / kPageSize; pfn += 2) on_page(rig_.host(pfn));
  }

  // From then on rings are written from their beginning.
  void start() {
    rig_.start();
    packed_rings_ = {rig_.raw_packed(kInflateQueue), rig_.raw_packed(kDeflateQueue)};
  }

  RawRing split_ring() { return rig_.raw_split(below<std::uint16_t>(2)); }
  void write_split_descriptor() { split_ring().describe(below(kSize), any_descriptor(kSize)); }
  void write_split_table() {
    split_ring().describe_at(kTables, below(kTableEntries), any_descriptor(kTableEntries));
  }
  void offer_any_head() {
    split_ring().offer(
        *rc::gen::weightedElement<std::uint16_t>({{30, below(kSize)}, {1, kSize}, {1, 0xFFFF}}));
  }

  RawPackedRing& packed_ring() { return packed_rings_.at(below<std::size_t>(2)); }
  static RawPackedDescriptor packed(const RawDescriptor& d, std::uint16_t bits = 0) {
    return {d.address, d.length, d.next, static_cast<std::uint16_t>(d.flags | bits)};
  }
  RawPackedDescriptor any_packed_descriptor() { return packed(any_descriptor(kSize)); }
  // Of any round, available or not.
  void write_packed_descriptor() {
    const auto bits = any_of<std::uint16_t>({0, kAvail, kUsed, kAvail | kUsed});
    packed_ring().write(below(kSize), packed(any_descriptor(kSize), bits));
  }
  // No flag but WRITE counts there, so that all are buffers.
  void write_packed_table() {
    packed_ring().write_at(kTables, below(kTableEntries), packed(any_buffer(kTableEntries)));
  }
  void write_event() { packed_ring().set_driver_event({any_number(), any_number()}); }

  static std::uint16_t any_number() { return *rc::gen::arbitrary<std::uint16_t>(); }
  static std::uint32_t any_pfn() { return 2 * *rc::gen::inRange<std::uint32_t>(1, 128); }

  std::uint64_t any_bitmap_word() {
    switch (below(4)) {
      case 0:  // a header, of a command that exists or not
        return below<std::uint64_t>(3) | (8 * below<std::uint64_t>(32)) << 32;
      case 1:  // bits of a bitmap; as a record's head it has an impossible page size
        return *rc::gen::arbitrary<std::uint64_t>() & 0x000000FE000000FE;
      default:
        return record_head(any_pfn(), 12 + below<std::uint64_t>(2),
                           any_of<std::uint64_t>({0, 0, 8, 8, 16, 3}));
    }
  }

  // Words of eight bytes, so that nothing but whole ones stands in the pool.
  void write_payload() {
    std::vector<std::uint64_t> words;
    const int count = *rc::gen::inRange(1, 64);
    for (int i = 0; i < count; ++i) {
      words.push_back(dialect_ == Dialect::kPageBitmap
                          ? any_bitmap_word()
                          : any_pfn() | std::uint64_t{any_pfn()} << 32);
    }
    // Near the beginning, where descriptors point.
    RC_ASSERT(rig_.memory().write(kPayloads + 8 * below<std::uint64_t>(16), le64(words)));
  }

  std::uint64_t any_address() {
    const std::uint64_t unit = dialect_ == Dialect::kPageBitmap ? 8 : 1;
    switch (below(5)) {
      case 0:  // a page that may go
        return below<std::uint64_t>(0x100) << kPageShift;
      case 1:  // inside such a page
        return (below<std::uint64_t>(0x100) << kPageShift) + 8;
      case 2:
        return any_of<std::uint64_t>({kHole << kPageShift, std::uint64_t{1} << 40});
      default:
        return kPayloads + unit * below<std::uint64_t>(64);
    }
  }

  static std::uint16_t any_next(std::uint16_t indices) {
    return static_cast<std::uint16_t>(below(indices + 2));
  }
  RawDescriptor any_buffer(std::uint16_t indices) {
    const auto length = any_of<std::uint32_t>({0, 1, 4, 8, 16, 64, 256, 0x1000, 0x4000, 0x10000});
    const auto flags =
        *rc::gen::weightedElement<std::uint16_t>({{8, 0}, {8, kNext}, {6, kWrite}, {6, 3}});
    return {any_address(), length, flags, any_next(indices)};
  }
  // A buffer or a table. Tables hold odd numbers: only as tables they are read.
  RawDescriptor any_descriptor(std::uint16_t indices) {
    if (below(33) >= 5) return any_buffer(indices);
    const auto length = any_of<std::uint32_t>({0, 16, 64, 16 * kTableEntries, 17});
    const auto flags = *rc::gen::weightedElement<std::uint16_t>({{4, kIndirect}, {1, 7}});
    return {kTables, length, flags, any_next(indices)};
  }

  void process() {
    (void)rig_.device().process(below<std::uint16_t>(3));
    check();
  }

  void restart_if_needed() {
    if (rig_.device().read_status() == Rig::kRunning) return;
    rig_.reset();
    start();
  }

  void check() {
    RC_ASSERT(balanced(rig_.device().metrics()));
    RC_ASSERT(rig_.device().ballooned_pages() <= rig_.memory().page_count());
  }

  const Dialect dialect_;
  const bool packed_ = testing::packed_by_default();
  Rig rig_;
  std::vector<RawPackedRing> packed_rings_;  // as far as they were written
};

void run_hostile_guest(Dialect dialect) {
  HostileGuest guest(dialect);
  const int steps = *rc::gen::inRange(1, 200);
  for (int i = 0; i < steps; ++i) guest.step();
  guest.check_at_the_end();
}

RC_GTEST_PROP(HostileDriverFuzzTest, PfnArraysChangeOnlyPagesTheyName, ()) {
  run_hostile_guest(Dialect::kStandard);
}

RC_GTEST_PROP(HostileDriverFuzzTest, BitmapsChangeOnlyPagesTheyName, ()) {
  run_hostile_guest(Dialect::kPageBitmap);
}

RC_GTEST_PROP(HostileDriverFuzzTest, ScatterGatherChangesOnlyPagesItNames, ()) {
  run_hostile_guest(Dialect::kScatterGather);
}

}  // namespace
}  // namespace vballoon
