// SPDX-License-Identifier: MIT
// The least that a hypervisor does with the library: memory, a discarder, a device, a target.
#include <vballoon/balloon_device.h>
#include <vballoon/discarder.h>
#include <vballoon/guest_memory.h>

#include <array>
#include <cstdint>
#include <cstdio>

int main() {
  constexpr std::uint64_t kMiB = 1024 * 1024;
  constexpr std::array kLayout{vballoon::RegionLayout{.guest_address = 0, .bytes = 16 * kMiB}};

  auto memory = vballoon::GuestMemory::allocate(kLayout);
  if (!memory) {
    std::printf("error: %s\n", memory.error().message().c_str());
    return 1;
  }
  auto device = vballoon::BalloonDevice::create(*memory, vballoon::make_kernel_discarder());
  if (!device) {
    std::printf("error: %s\n", device.error().message().c_str());
    return 1;
  }

  if (!(*device)->set_target_bytes(4 * kMiB)) return 1;
  return (*device)->target_pages() == 1024 ? 0 : 1;
}
