// SPDX-License-Identifier: MIT
// One driver's view of both rings, for tests of what a device does whatever the ring is.
#ifndef VBALLOON_TESTS_RING_HAND_DRIVER_H_
#define VBALLOON_TESTS_RING_HAND_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

struct HandPiece {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  bool writable = false;
};
using HandPieces = std::vector<HandPiece>;

class HandDriver {
 public:
  virtual ~HandDriver() = default;
  // Makes a buffer available that comes back under `id`, which is below the size of the queue.
  virtual void offer(std::uint16_t id, const HandPieces& pieces) = 0;
  virtual void offer_indirect(std::uint16_t id, std::uint64_t table, const HandPieces& pieces) = 0;
  // What the device returned since this was asked before.
  virtual std::vector<RawUsed> take_returned() = 0;

 protected:
  static std::uint16_t flags_of(const HandPieces& pieces, std::size_t index) {
    return static_cast<std::uint16_t>((pieces[index].writable ? kWrite : 0) |
                                      (index + 1 == pieces.size() ? 0 : kNext));
  }
};

class SplitHandDriver final : public HandDriver {
 public:
  SplitHandDriver(const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config)
      : ring_(memory, config), size_(config.size) {}

  // In the descriptors from `id` on.
  void offer(std::uint16_t id, const HandPieces& pieces) override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      ring_.describe(static_cast<std::uint16_t>((id + i) % size_),
                     {pieces[i].address, pieces[i].length, flags_of(pieces, i),
                      static_cast<std::uint16_t>((id + i + 1) % size_)});
    }
    ring_.offer(id);
  }
  void offer_indirect(std::uint16_t id, std::uint64_t table, const HandPieces& pieces) override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      ring_.describe_at(table, static_cast<std::uint16_t>(i),
                        {pieces[i].address, pieces[i].length, flags_of(pieces, i),
                         static_cast<std::uint16_t>(i + 1)});
    }
    ring_.offer(id, {table, static_cast<std::uint32_t>(pieces.size() * 16), kIndirect, 0});
  }
  std::vector<RawUsed> take_returned() override {
    std::vector<RawUsed> all;
    while (next_used_ != ring_.used_index()) all.push_back(ring_.used(next_used_++));
    return all;
  }

 private:
  RawRing ring_;
  std::uint16_t size_;
  std::uint16_t next_used_ = 0;
};

class PackedHandDriver final : public HandDriver {
 public:
  PackedHandDriver(const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config)
      : ring_(memory, config), size_(config.size) {}

  void offer(std::uint16_t id, const HandPieces& pieces) override {
    entries_[id] = pieces.size();
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      ring_.append({pieces[i].address, pieces[i].length, id, flags_of(pieces, i)});
    }
  }
  void offer_indirect(std::uint16_t id, std::uint64_t table, const HandPieces& pieces) override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      ring_.write_at(
          table, static_cast<std::uint16_t>(i),
          {pieces[i].address, pieces[i].length, 0, pieces[i].writable ? kWrite : std::uint16_t{0}});
    }
    entries_[id] = 1;
    ring_.append({table, static_cast<std::uint32_t>(pieces.size() * 16), id, kIndirect});
  }
  std::vector<RawUsed> take_returned() override {
    std::vector<RawUsed> all;
    for (auto used = ring_.read(next_used_.index); is_used_at(next_used_, used);
         used = ring_.read(next_used_.index)) {
      all.push_back({used.id, (used.flags & kWrite) != 0 ? used.length : 0});
      next_used_.advance(entries_.at(used.id), size_);
    }
    return all;
  }

 private:
  RawPackedRing ring_;
  std::uint16_t size_;
  std::map<std::uint16_t, std::size_t> entries_;  // of the ring that a buffer takes
  RawPlace next_used_;
};

inline std::unique_ptr<HandDriver> make_hand_driver(
    const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config) {
  if (config.packed) return std::make_unique<PackedHandDriver>(memory, config);
  return std::make_unique<SplitHandDriver>(memory, config);
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_HAND_DRIVER_H_
