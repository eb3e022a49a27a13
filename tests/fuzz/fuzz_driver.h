// SPDX-License-Identifier: MIT
// The rings of a driver that keeps the rules of the ring, whatever its messages say: so each chain
// that it sends has to come back.
#ifndef VBALLOON_TESTS_FUZZ_FUZZ_DRIVER_H_
#define VBALLOON_TESTS_FUZZ_FUZZ_DRIVER_H_

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/watched_memory.h"
#include "ring/hand_driver.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/device_queue.h"

namespace vballoon::fuzz {

inline constexpr std::uint16_t kMostEntries = 16;

class FuzzDriver {
 public:
  explicit FuzzDriver(std::shared_ptr<const GuestMemory> memory) : memory_(std::move(memory)) {}

  // A ring with nothing on it, in place of the one before.
  QueueConfig make_ring(std::uint16_t queue, std::uint16_t size, bool packed) {
    const std::uint64_t base = (kDriverPages + 3u * queue) * kPageSize;
    std::memset(memory_->host(base, 3 * kPageSize), 0, 3 * kPageSize);
    Ring& ring = rings_.at(queue);
    ring.config = packed ? testing::raw_packed_config(size, base) : testing::raw_config(size, base);
    ring.used.reset();
    ring.driver = testing::make_hand_driver(memory_, ring.config);
    return ring.config;
  }

  // Puts bytes into the driver's memory; nothing when there is no more room.
  std::optional<std::uint64_t> place(std::span<const std::byte> bytes) {
    const std::uint64_t at = next_;
    if (bytes.size() > kEnd - at) return std::nullopt;
    check(memory_->write(at, bytes), "payloads lie in guest memory");
    next_ = (at + bytes.size() + 15) / 16 * 16;
    return at;
  }
  // Room for a table of so many descriptors.
  std::optional<std::uint64_t> place_table(std::size_t entries) {
    return place(std::vector<std::byte>(16 * entries));
  }

  // Makes a chain available under the id that it gives; nothing when the ring has no room.
  std::optional<std::uint16_t> offer(std::uint16_t queue, const testing::HandPieces& pieces,
                                     std::optional<std::uint64_t> table) {
    Ring& ring = rings_.at(queue);
    const auto id = find_room(ring, table ? 1 : pieces.size());
    if (!id) return std::nullopt;
    if (table) {
      ring.driver->offer_indirect(*id, *table, pieces);
    } else {
      ring.driver->offer(*id, pieces);
    }
    mark(ring, *id, table ? 1 : pieces.size(), true);
    return id;
  }
  std::vector<testing::RawUsed> take_returned(std::uint16_t queue) {
    return rings_.at(queue).driver->take_returned();
  }
  void reclaim(std::uint16_t queue, std::uint16_t id, std::uint16_t descriptors) {
    mark(rings_.at(queue), id, descriptors, false);
  }

 private:
  static constexpr std::uint64_t kFirst =
      (kDriverPages + 3u * kMaxBalloonQueues) * kPageSize;  // behind the rings
  static constexpr std::uint64_t kEnd = (kDriverPages + kDriverPageCount) * kPageSize;

  struct Ring {
    QueueConfig config;
    std::bitset<kMostEntries> used;  // descriptors of the driver's
    std::unique_ptr<testing::HandDriver> driver;
  };

  static std::optional<std::uint16_t> find_room(const Ring& ring, std::size_t descriptors) {
    const std::uint16_t size = ring.config.size;
    if (descriptors > size) return std::nullopt;
    for (std::uint16_t id = 0; id < size; ++id) {
      bool room = true;
      for (std::size_t i = 0; i < descriptors; ++i) room &= !ring.used[(id + i) % size];
      if (room) return id;
    }
    return std::nullopt;
  }
  static void mark(Ring& ring, std::uint16_t id, std::size_t descriptors, bool used) {
    for (std::size_t i = 0; i < descriptors; ++i) ring.used[(id + i) % ring.config.size] = used;
  }

  const std::shared_ptr<const GuestMemory> memory_;
  std::array<Ring, kMaxBalloonQueues> rings_;
  std::uint64_t next_ = kFirst;
};

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_FUZZ_DRIVER_H_
