// SPDX-License-Identifier: MIT
// Where the device stands on a ring, worked out a second time: which entry it takes next, where it
// puts what is used, and whether the driver wants to hear of it. Split and packed; the offsets are
// those of virtio 1.3, sections 2.7 and 2.8, and not the library's own.
#ifndef VBALLOON_TESTS_FUZZ_RING_MODEL_H_
#define VBALLOON_TESTS_FUZZ_RING_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "fuzz/fuzz_input.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon::fuzz {

// A chain as the ring knows it.
struct RingItem {
  std::uint16_t id = 0;
  std::uint16_t entries = 1;  // of a packed ring
};

class RingModel {
 public:
  RingModel(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config,
            const QueuePosition& position)
      : memory_(std::move(memory)),
        config_(config),
        avail_{position.next_available, position.available_wrap},
        used_{position.next_used, position.used_wrap},
        published_(used_) {}

  // What stands where the device looks next; nothing when the driver has not made it available. A
  // head outside the table is still an item here.
  [[nodiscard]] std::optional<RingItem> peek() const {
    return config_.packed ? peek_packed() : peek_split();
  }
  void take(const RingItem& item) { step(avail_, item.entries); }
  void untake(const RingItem& item) { step_back(avail_, item.entries); }

  // The device has put a chain on the ring: it stands in the next place.
  void put(const RingItem& item, std::uint32_t written) {
    const std::uint64_t at = config_.packed ? config_.descriptor_table + 16 * used_.index
                                            : config_.used_ring + 4 + 8 * (used_.index & mask());
    const auto id = config_.packed ? get<std::uint16_t>(at + 12) : get<std::uint32_t>(at);
    const auto length = get<std::uint32_t>(config_.packed ? at + 8 : at + 4);
    check(id == item.id, "the used entry names the chain");
    check(length == written, "the used entry has the length of the answer");
    step(used_, item.entries);
  }
  [[nodiscard]] bool unpublished() const { return used_ != published_; }
  // The device has published, and said whether the driver is to be interrupted.
  void publish(bool interrupts) {
    if (!unpublished()) return check(!interrupts, "nothing new is no reason for an interrupt");
    check(interrupts == wants_interrupt(), "an interrupt comes when the driver wants it");
    if (config_.packed) {
      const auto flags = get<std::uint16_t>(config_.descriptor_table + 16 * published_.index + 14);
      check((flags & 0x8080) == (published_.wrap ? 0x8080 : 0), "the driver sees a used entry");
    } else {
      check(get<std::uint16_t>(config_.used_ring + 2) == used_.index, "used.idx has moved");
    }
    published_ = used_;
  }
  [[nodiscard]] QueuePosition position() const {
    return {avail_.index, used_.index, !config_.packed || avail_.wrap,
            !config_.packed || used_.wrap};
  }

 private:
  struct Place {
    std::uint16_t index = 0;
    bool wrap = true;
    friend bool operator==(const Place&, const Place&) = default;
  };

  [[nodiscard]] std::uint16_t mask() const { return static_cast<std::uint16_t>(config_.size - 1); }
  template <typename T>
  [[nodiscard]] T get(std::uint64_t address) const {
    T value{};
    check(memory_->read(address, std::as_writable_bytes(std::span(&value, 1))),
          "a ring lies in guest memory");
    return value;
  }

  void step(Place& place, std::uint16_t entries) const {
    for (std::uint16_t i = 0; i < entries; ++i) {
      ++place.index;
      if (config_.packed && place.index == config_.size) place = {0, !place.wrap};
    }
  }
  void step_back(Place& place, std::uint16_t entries) const {
    for (std::uint16_t i = 0; i < entries; ++i) {
      if (config_.packed && place.index == 0) place = {config_.size, !place.wrap};
      --place.index;
    }
  }

  [[nodiscard]] std::optional<RingItem> peek_split() const {
    if (get<std::uint16_t>(config_.available_ring + 2) == avail_.index) return std::nullopt;
    return RingItem{get<std::uint16_t>(config_.available_ring + 4 + 2 * (avail_.index & mask()))};
  }

  [[nodiscard]] bool is_available(Place place, std::uint16_t flags) const {
    return ((flags & 0x80) != 0) == place.wrap && ((flags & 0x8000) != 0) != place.wrap;
  }
  // Follows NEXT as far as there are entries that the device has not returned yet.
  [[nodiscard]] std::optional<RingItem> peek_packed() const {
    Place place = avail_;
    RingItem item{0, 0};
    std::uint16_t held = 0;
    for (Place at = published_; at != avail_; step(at, 1)) ++held;
    while (item.entries + held < config_.size) {
      const std::uint64_t at = config_.descriptor_table + 16 * place.index;
      const auto flags = get<std::uint16_t>(at + 14);
      if (!is_available(place, flags)) break;
      item.id = get<std::uint16_t>(at + 12);
      ++item.entries;
      if ((flags & 1) == 0) break;
      step(place, 1);
    }
    if (item.entries == 0) return std::nullopt;
    return item;
  }

  [[nodiscard]] bool passed(std::uint16_t index, std::optional<bool> wrap) const {
    for (Place at = published_; at != used_; step(at, 1)) {
      if (at.index == index && (!wrap || at.wrap == *wrap)) return true;
    }
    return false;
  }
  [[nodiscard]] bool wants_interrupt() const {
    if (config_.packed) {
      const auto event = get<std::uint16_t>(config_.available_ring);
      const auto flags = get<std::uint16_t>(config_.available_ring + 2) & 3;
      if (flags == 1) return false;
      if (flags != 2 || !config_.event_index) return true;
      return (event & 0x7FFF) >= config_.size || passed(event & 0x7FFF, (event & 0x8000) != 0);
    }
    if (!config_.event_index) return (get<std::uint16_t>(config_.available_ring) & 1) == 0;
    return passed(get<std::uint16_t>(config_.available_ring + 4 + 2 * config_.size), std::nullopt);
  }

  const std::shared_ptr<const GuestMemory> memory_;
  const QueueConfig config_;  // guest-physical
  Place avail_;
  Place used_;
  Place published_;
};

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_RING_MODEL_H_
