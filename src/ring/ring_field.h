// SPDX-License-Identifier: MIT
// What the split and the packed layout have in common.
//
// Each field is read and written by one atomic access: the other side may write it at any moment,
// and what was read must not be fetched a second time behind our back.
#ifndef VBALLOON_SRC_RING_RING_FIELD_H_
#define VBALLOON_SRC_RING_RING_FIELD_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace vballoon {

// Ring fields are little-endian; a big-endian host would need a swap in GuestField.
static_assert(std::endian::native == std::endian::little);

inline constexpr std::uint16_t kDescriptorNext = 1;
inline constexpr std::uint16_t kDescriptorWrite = 2;
inline constexpr std::uint16_t kDescriptorIndirect = 4;

inline constexpr std::uint64_t kMaxChainBytes = std::uint64_t{1} << 32;

// One field in guest memory.
template <typename T>
class GuestField {
 public:
  explicit GuestField(std::byte* at) : value_(*reinterpret_cast<T*>(at)) {}

  [[nodiscard]] T load(std::memory_order order = std::memory_order_relaxed) const {
    return value_.load(order);
  }
  void store(T value, std::memory_order order = std::memory_order_relaxed) const {
    value_.store(value, order);
  }

 private:
  std::atomic_ref<T> value_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_RING_FIELD_H_
