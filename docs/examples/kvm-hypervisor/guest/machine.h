// SPDX-License-Identifier: MIT
// What the hypervisor and its guest agree on: the guest-physical addresses of the machine, and the
// registers of its platform device. The guest has no system headers, so this has none either.
#ifndef KVM_HYPERVISOR_GUEST_MACHINE_H_
#define KVM_HYPERVISOR_GUEST_MACHINE_H_

namespace machine {

inline constexpr unsigned kBootInfo = 0x1000;     // BootInfo; its address comes in ECX
inline constexpr unsigned kStackTop = 0x10000;    // grows down
inline constexpr unsigned kImage = 0x10000;       // the flat image, begins with its entry
inline constexpr unsigned kWork = 0x80000;        // what a busy guest keeps writing to
inline constexpr unsigned kPoolStart = 0x100000;  // from here on it is the guest's to give away

// RAM begins at 0, ends for a hole, and goes on behind it. The hole begins with the registers of
// the balloon; those of the platform follow.
inline constexpr unsigned kHoleBytes = 512u << 20;
inline constexpr unsigned kPlatformOffset = 0x10000;

struct BootInfo {
  unsigned long long low_bytes;   // RAM in front of the hole, and where that begins
  unsigned long long high_start;  // where it goes on
  unsigned long long high_bytes;  // and how much there is
  bool busy;                      // write to memory while the device works
};

// Registers of the platform device, of 4 bytes each, as offsets from its address.
inline constexpr unsigned kConsole = 0x0;    // write: a character for the console
inline constexpr unsigned kWait = 0x4;       // read: halts until an interrupt is asserted
inline constexpr unsigned kWrites = 0x8;     // write: how often it wrote while it was waiting
inline constexpr unsigned kResized = 0xc;    // write: pages in the balloon, which has its size
inline constexpr unsigned kFailures = 0x10;  // write: that many so far; all memory was checked

}  // namespace machine

#endif  // KVM_HYPERVISOR_GUEST_MACHINE_H_
