// SPDX-License-Identifier: MIT
// Rings full of nonsense that keeps changing: whatever stands there, a device takes chains that it
// can hold, and comes to an end.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ring/driver_queue.h"
#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

using testing::kAvail;
using testing::kIndirect;
using testing::kNext;
using testing::kUsed;
using testing::kWrite;

constexpr std::uint64_t kTable = 0x8000;
constexpr std::uint64_t kMemoryBytes = 0x10000;

class HostileRing {
 public:
  explicit HostileRing(const QueueConfig& config) : config_(config) {
    RC_ASSERT(device_.start(memory_, config_).has_value());
  }

  void step() {
    switch (*rc::gen::weightedElement<int>({{6, 0}, {2, 1}, {4, 2}, {3, 3}, {2, 4}, {1, 5}})) {
      case 0:
        return config_.packed ? scribble_packed() : scribble_split();
      case 1:
        return scribble_table();
      case 2:
        return pop();
      case 3:
        return complete();
      case 4:
        (void)device_.publish();
        return;
      case 5:
        (void)device_.enable_kicks();
        return;
    }
  }

  // A device that goes on until there is nothing left does not go on for ever: nobody adds anything
  // now, so each entry can be taken once in this round and once in the next.
  void drain() {
    std::size_t pops = 0;
    while (pop_one()) {
      held_.clear();
      RC_ASSERT(++pops <= std::size_t{2} * config_.size);
    }
    held_.clear();
    (void)device_.publish();
  }

 private:
  static std::uint64_t any_address() {
    return *rc::gen::element<std::uint64_t>(0, kTable, kTable + 8, kMemoryBytes - 16, kMemoryBytes,
                                            ~std::uint64_t{0}, ~std::uint64_t{15});
  }
  static std::uint32_t any_length() {
    return *rc::gen::element<std::uint32_t>(0, 1, 16, 24, 32, 64, 16 * 64, 0xFFFFFFF0, 0xFFFFFFFF);
  }
  static std::uint16_t any_flags(std::vector<std::uint16_t> bits) {
    std::uint16_t flags = 0;
    for (const std::uint16_t bit : bits) {
      if (*rc::gen::arbitrary<bool>()) flags = static_cast<std::uint16_t>(flags | bit);
    }
    return flags;
  }
  [[nodiscard]] std::uint16_t any_index() const {
    return *rc::gen::inRange<std::uint16_t>(0, static_cast<std::uint16_t>(config_.size + 1));
  }

  void scribble_packed() {
    const auto at = static_cast<std::uint16_t>(any_index() % config_.size);
    packed_.write(at, {any_address(), any_length(), any_index(),
                       any_flags({kNext, kWrite, kAvail, kUsed,
                                  *rc::gen::element<std::uint16_t>(0, 0, kIndirect)})});
    packed_.set_driver_event({*rc::gen::arbitrary<std::uint16_t>(), any_flags({1, 2, 4})});
  }
  void scribble_split() {
    split_.describe(static_cast<std::uint16_t>(any_index() % config_.size),
                    {any_address(), any_length(),
                     any_flags({kNext, kWrite, *rc::gen::element<std::uint16_t>(0, 0, kIndirect)}),
                     any_index()});
    split_.offer(static_cast<std::uint16_t>(any_index() % config_.size));
    split_.set_used_event(*rc::gen::arbitrary<std::uint16_t>());
  }
  void scribble_table() {
    split_.describe_at(kTable, *rc::gen::inRange<std::uint16_t>(0, 8),
                       {any_address(), any_length(), any_flags({kNext, kWrite, kIndirect}),
                        *rc::gen::inRange<std::uint16_t>(0, 9)});
  }

  // Whether something was taken.
  bool pop_one() {
    auto popped = device_.pop();
    if (!popped) return device_.ready();
    if (!*popped) return false;
    RC_ASSERT((*popped)->readable().size() + (*popped)->writable().size() <= config_.size);
    held_.push_back(std::move(**popped));
    RC_ASSERT(held_.size() <= config_.size);
    return true;
  }
  void pop() { (void)pop_one(); }
  void complete() {
    if (held_.empty()) return;
    const auto which = *rc::gen::inRange<std::size_t>(0, held_.size());
    held_[which].complete(*rc::gen::inRange<std::uint32_t>(0, 3));
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  const QueueConfig config_;
  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kMemoryBytes);
  testing::RawRing split_{memory_, config_};
  testing::RawPackedRing packed_{memory_, config_};
  DeviceQueue device_;
  std::vector<DescriptorChain> held_;
};

RC_GTEST_PROP(HostileRingProperty, DeviceComesToAnEnd, ()) {
  const bool packed = *rc::gen::arbitrary<bool>();
  const auto size = packed ? *rc::gen::inRange<std::uint16_t>(1, 10)
                           : *rc::gen::element<std::uint16_t>(1, 2, 4, 8);
  QueueConfig config = lay_out_ring(size, 0, packed).config;
  config.event_index = *rc::gen::arbitrary<bool>();
  config.in_order = *rc::gen::arbitrary<bool>();
  config.indirect = *rc::gen::arbitrary<bool>();
  HostileRing ring(config);
  const int steps = *rc::gen::inRange(0, 200);

  for (int i = 0; i < steps; ++i) ring.step();

  ring.drain();
}

}  // namespace
}  // namespace vballoon
