// SPDX-License-Identifier: MIT
// The one place where bytes are copied out of, and into, guest memory.
#ifndef VBALLOON_SRC_MEMORY_GUEST_BYTES_H_
#define VBALLOON_SRC_MEMORY_GUEST_BYTES_H_

#include <cstddef>
#include <cstring>

namespace vballoon {

// Copies n bytes of which either side may be guest memory. A guest may write there at the same
// time; the copy is then some mixture of old and new bytes, and the caller checks the copy.
#if defined(__SANITIZE_THREAD__)
// The race with the guest is expected and harmless, so it is hidden from the thread sanitizer.
// volatile, because a loop turned into a call of memcpy would be intercepted again.
__attribute__((no_sanitize("thread"), noinline)) inline void copy_guest_bytes(void* to,
                                                                              const void* from,
                                                                              std::size_t n) {
  auto* out = static_cast<volatile unsigned char*>(to);
  const auto* in = static_cast<const volatile unsigned char*>(from);
  for (std::size_t i = 0; i < n; ++i) out[i] = in[i];
}
#else
inline void copy_guest_bytes(void* to, const void* from, std::size_t n) {
  if (n != 0) std::memcpy(to, from, n);
}
#endif

}  // namespace vballoon

#endif  // VBALLOON_SRC_MEMORY_GUEST_BYTES_H_
