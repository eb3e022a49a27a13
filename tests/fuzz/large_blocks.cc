// SPDX-License-Identifier: MIT
// Keeps large blocks for the next input that wants one of that size. The buffers of a device take
// some dozens of megabytes, and a sanitizer that maps and marks them anew for each input does
// little else. A block still has its own bounds; only its use after it was freed goes unseen.
#include <array>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

constexpr std::size_t kLarge = std::size_t{1} << 20;

struct Block {
  void* at = nullptr;
  std::size_t bytes = 0;
  bool free = false;
};
std::array<Block, 64> blocks;

void* take(std::size_t bytes) {
  for (Block& block : blocks) {
    if (!block.free || block.bytes != bytes) continue;
    block.free = false;
    return block.at;
  }
  return nullptr;
}

void note(void* at, std::size_t bytes) {
  for (Block& block : blocks) {
    if (block.at != nullptr) continue;
    block = {at, bytes, false};
    return;
  }
}

// False when it is none of the large ones.
bool keep(void* at) {
  for (Block& block : blocks) {
    if (block.at == nullptr) return false;
    if (block.at != at) continue;
    block.free = true;
    return true;
  }
  return false;
}

}  // namespace

void* operator new(std::size_t bytes) {
  void* at = bytes < kLarge ? nullptr : take(bytes);
  if (at != nullptr) return at;
  at = std::malloc(bytes);
  if (at == nullptr) throw std::bad_alloc();
  if (bytes >= kLarge) note(at, bytes);
  return at;
}

// libFuzzer's own.
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(bytes);
}

void operator delete(void* at) noexcept {
  if (at != nullptr && !keep(at)) std::free(at);
}
void operator delete(void* at, std::size_t /*bytes*/) noexcept { operator delete(at); }
