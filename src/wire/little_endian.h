// SPDX-License-Identifier: MIT
// Numbers as they stand in a message: little-endian, not aligned.
#ifndef VBALLOON_SRC_WIRE_LITTLE_ENDIAN_H_
#define VBALLOON_SRC_WIRE_LITTLE_ENDIAN_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vballoon {

// The value in little-endian byte order, seen from this host; its own inverse.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T little_endian(T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (std::endian::native == std::endian::little) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

template <std::unsigned_integral T>
[[nodiscard]] inline T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return little_endian(value);
}

template <std::unsigned_integral T>
inline void store_le(std::byte* to, T value) {
  value = little_endian(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_LITTLE_ENDIAN_H_
