// SPDX-License-Identifier: MIT
// What every fuzz target needs: the bytes of an input, and a check that no build leaves out.
#ifndef VBALLOON_TESTS_FUZZ_FUZZ_INPUT_H_
#define VBALLOON_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

// Called with each input; the name is libFuzzer's.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace vballoon::fuzz {

// Unlike assert() also there in a release build, which replays the corpora too.
inline void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "the oracle says: %s\n", what);
  std::abort();
}

// Takes an input apart from the front; behind its end stand zeros.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size)
      : bytes_(std::as_bytes(std::span(data, size))) {}

  [[nodiscard]] bool done() const { return bytes_.empty(); }

  template <std::unsigned_integral T>
  [[nodiscard]] T take() {
    T value = 0;
    const auto bytes = take_bytes(sizeof(T));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      value = static_cast<T>(value | std::to_integer<T>(bytes[i]) << (8 * i));
    }
    return value;
  }
  [[nodiscard]] bool take_bool() { return (take<std::uint8_t>() & 1) != 0; }

  // As many as there are, at most so many.
  [[nodiscard]] std::span<const std::byte> take_bytes(std::size_t most) {
    const auto taken = bytes_.first(std::min(most, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_FUZZ_INPUT_H_
