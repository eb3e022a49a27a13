// SPDX-License-Identifier: MIT
// What the driver's sides of a split and of a packed ring have in common: what they remember of the
// buffers that the device has.
#ifndef VBALLOON_SRC_RING_DRIVER_QUEUE_IMPL_H_
#define VBALLOON_SRC_RING_DRIVER_QUEUE_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ring/driver_queue.h"

namespace vballoon {

// The pieces of one buffer: first the readable ones, then the writable ones.
struct Pieces {
  std::span<const GuestBuffer> readable;
  std::span<const GuestBuffer> writable;

  [[nodiscard]] std::size_t count() const { return readable.size() + writable.size(); }
  [[nodiscard]] const GuestBuffer& operator[](std::size_t index) const {
    return index < readable.size() ? readable[index] : writable[index - readable.size()];
  }
  [[nodiscard]] bool is_writable(std::size_t index) const { return index >= readable.size(); }
  [[nodiscard]] bool is_last(std::size_t index) const { return index + 1 == count(); }
};

struct DriverQueue::Impl {
  Impl(std::shared_ptr<const GuestMemory> guest_memory, const QueueConfig& config);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual ~Impl() = default;

  // As the functions of DriverQueue; there are descriptors for what is added.
  virtual void add(const Pieces& pieces, std::uint64_t token) = 0;
  virtual void add_indirect(const Pieces& pieces, std::uint64_t table_address,
                            std::uint64_t token) = 0;
  [[nodiscard]] virtual bool publish() = 0;
  [[nodiscard]] virtual std::uint16_t next_available() const = 0;
  [[nodiscard]] virtual std::optional<Used> take_used() = 0;
  [[nodiscard]] virtual bool enable_interrupts() = 0;
  virtual void disable_interrupts() = 0;

  [[nodiscard]] std::uint16_t size() const { return static_cast<std::uint16_t>(entries.size()); }

  // One for each id that a buffer can have. A split ring's ids are those of the descriptors, and a
  // buffer takes as many as it has descriptors; a packed ring's buffer takes one. The rings
  // themselves are open to the device.
  struct Entry {
    std::uint64_t token = 0;
    std::uint32_t writable_bytes = 0;  // in order only
    std::uint16_t next = 0;            // of the buffer, or in the list of free ones
    std::uint16_t descriptors = 0;     // of the buffer that begins here; 0: none does
  };

  // A used entry, its id checked.
  struct Answer {
    std::uint16_t id = 0;
    std::uint32_t written = 0;
  };
  struct HandedOut {
    Used used;
    std::uint16_t descriptors;
  };

  // Takes the entries of a new buffer from the list of free ones; returns the first, its id.
  std::uint16_t take_entries(const Pieces& pieces, std::uint16_t descriptors, std::uint64_t token) {
    const std::uint16_t id = first_free;
    first_free = entries[last_entry(id, descriptors)].next;
    free_descriptors = static_cast<std::uint16_t>(free_descriptors - descriptors);
    entries[id].descriptors = descriptors;
    entries[id].token = token;
    if (in_order) entries[id].writable_bytes = total_bytes(pieces.writable);
    return id;
  }

  [[nodiscard]] bool given_out(std::uint32_t id) const {
    return id < entries.size() && entries[id].descriptors != 0;
  }

  // The buffer that comes back for an answer: its own, or in order the oldest one. `batch` is then
  // set while there are more.
  [[nodiscard]] HandedOut hand_out(Answer answer) {
    const std::uint16_t id = in_order ? oldest : answer.id;
    const bool named = id == answer.id;
    if (in_order) batch = named ? std::nullopt : std::optional(answer);
    const std::uint32_t written = named ? answer.written : entries[id].writable_bytes;
    const std::uint16_t descriptors = free_entries(id);
    return {{entries[id].token, written}, descriptors};
  }

  const std::shared_ptr<const GuestMemory> memory;
  const bool event_index;
  const bool indirect;
  const bool in_order;

  std::vector<Entry> entries;
  std::uint16_t first_free = 0;
  std::uint16_t free_descriptors;
  std::uint16_t oldest = 0;  // in order only: the buffer that comes back next
  // In order only: an answer that stands for buffers not handed out yet.
  std::optional<Answer> batch;

  bool interrupts_enabled = true;
  std::uint64_t bogus_used = 0;

 private:
  [[nodiscard]] static std::uint32_t total_bytes(std::span<const GuestBuffer> buffers);

  // The last of the `descriptors` entries that begin at `id`.
  [[nodiscard]] std::uint16_t last_entry(std::uint16_t id, std::uint16_t descriptors) const {
    if (packed_) return id;
    for (std::uint16_t i = 1; i < descriptors; ++i) id = entries[id].next;
    return id;
  }

  // Returns how many descriptors became free.
  std::uint16_t free_entries(std::uint16_t id) {
    const std::uint16_t descriptors = std::exchange(entries[id].descriptors, std::uint16_t{0});
    const std::uint16_t last = last_entry(id, descriptors);
    free_descriptors = static_cast<std::uint16_t>(free_descriptors + descriptors);
    if (in_order) {
      oldest = entries[last].next;
    } else {
      entries[last].next = first_free;
      first_free = id;
    }
    return descriptors;
  }

  const bool packed_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_DRIVER_QUEUE_IMPL_H_
