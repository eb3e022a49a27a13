// SPDX-License-Identifier: MIT
// The frame of a saved state, and numbers in it (docs/formats.md, "Saved state").
//
// A state may come from anywhere: the reader believes nothing of it, and allocates nothing.
#ifndef VBALLOON_SRC_DEVICE_SAVED_STATE_H_
#define VBALLOON_SRC_DEVICE_SAVED_STATE_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vballoon/result.h"
#include "wire/little_endian.h"

namespace vballoon {

enum class StateKind : std::uint32_t { kBalloonDevice = 1, kMmioTransport = 2 };

// Of both kinds; another number with each change of what a state holds.
inline constexpr std::uint32_t kStateVersion = 2;

// Appends numbers to a state.
class StateWriter {
 public:
  template <std::unsigned_integral T>
  void put(T value) {
    if constexpr (sizeof(T) == 1) {
      bytes_.push_back(static_cast<std::byte>(value));
    } else {
      std::array<std::byte, sizeof(T)> bytes;
      store_le(bytes.data(), value);
      put(bytes);
    }
  }
  void put(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Takes them out again. Once there is too little left it gives zeros and is no longer ok().
class StateReader {
 public:
  explicit StateReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <std::unsigned_integral T>
  [[nodiscard]] T get() {
    const auto bytes = get_bytes(sizeof(T));
    if (!ok_) return 0;
    if constexpr (sizeof(T) == 1) {
      return std::to_integer<T>(bytes.front());
    } else {
      return load_le<T>(bytes.data());
    }
  }
  [[nodiscard]] std::span<const std::byte> get_bytes(std::uint64_t count);
  // How many things of `bytes_each` follow, as a number T says; 0 when they are more than `most`
  // or more than can be there.
  template <std::unsigned_integral T>
  [[nodiscard]] std::size_t get_count(std::uint64_t most, std::uint64_t bytes_each) {
    const std::uint64_t count = get<T>();
    ok_ = ok_ && count <= most && count <= left_.size() / bytes_each;
    return ok_ ? static_cast<std::size_t>(count) : 0;
  }

  [[nodiscard]] std::span<const std::byte> rest() const { return left_; }
  // What was read makes no sense.
  void refuse() { ok_ = false; }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
  bool ok_ = true;
};

// Puts magic, version, length and checksum around what was written.
[[nodiscard]] std::vector<std::byte> seal(StateKind kind, StateWriter content);
// What stands between them. Fails with kBadSavedState, and says why.
[[nodiscard]] Result<std::span<const std::byte>> unseal(StateKind kind,
                                                        std::span<const std::byte> state);

// FNV-1a of 64 bits: each changed byte changes it.
[[nodiscard]] std::uint64_t state_checksum(std::span<const std::byte> bytes);

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_SAVED_STATE_H_
