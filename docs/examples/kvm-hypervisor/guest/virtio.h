// SPDX-License-Identifier: MIT
// The driver side of virtio-mmio and of a split virtqueue (virtio 1.3, sections 4.2 and 2.7), as
// little of it as a guest needs that waits for each answer.
#ifndef KVM_HYPERVISOR_GUEST_VIRTIO_H_
#define KVM_HYPERVISOR_GUEST_VIRTIO_H_

namespace guest {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;

template <typename T>
T& at(u32 address) {
  return *reinterpret_cast<T*>(address);
}
inline volatile u32& word(u32 address) { return at<volatile u32>(address); }
inline u32 address_of(const volatile void* object) { return reinterpret_cast<u32>(object); }

// Registers, as offsets from the device's first.
enum Register : u32 {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDesc = 0x080,
  kQueueDriver = 0x090,
  kQueueDevice = 0x0a0,
  kConfig = 0x100,
};

class Queue {
 public:
  static constexpr u16 kSize = 256;

  enum class Interrupts : u16 { kWanted = 0, kUnwanted = 1 };  // VIRTQ_AVAIL_F_NO_INTERRUPT

  // Gives the rings, zeroed like all memory of the image, to the device; false if it has no such
  // queue.
  bool start(u32 device, u16 index, Interrupts interrupts) {
    available_.flags = static_cast<u16>(interrupts);
    device_ = device;
    index_ = index;
    word(device + kQueueSel) = index;
    if (word(device + kQueueReady) != 0 || word(device + kQueueSizeMax) < kSize) return false;
    word(device + kQueueSize) = kSize;
    set_address(kQueueDesc, address_of(descriptors_));
    set_address(kQueueDriver, address_of(&available_));
    set_address(kQueueDevice, address_of(&used_));
    word(device + kQueueReady) = 1;
    return word(device + kQueueReady) == 1;
  }

  // Puts a buffer on the ring, a chain of its own.
  void add(u32 address, u32 bytes, bool device_writes) {
    const u16 entry = next_ % kSize;
    descriptors_[entry] = {address, bytes, static_cast<u16>(device_writes ? kWrite : 0), 0};
    available_.ring[entry] = entry;
    ++next_;
  }

  // Makes the buffers visible, and kicks the device unless it is looking anyway.
  void publish() {
    __atomic_store_n(&available_.index, next_, __ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&used_.flags, __ATOMIC_SEQ_CST) & kNoNotify) == 0) {
      word(device_ + kQueueNotify) = index_;
    }
  }

  // The device has given all buffers back.
  bool idle() const { return __atomic_load_n(&used_.index, __ATOMIC_ACQUIRE) == next_; }

 private:
  static constexpr u16 kWrite = 2;     // VIRTQ_DESC_F_WRITE
  static constexpr u16 kNoNotify = 1;  // VIRTQ_USED_F_NO_NOTIFY

  struct Descriptor {
    u64 address;
    u32 length;
    u16 flags;
    u16 next;
  };
  struct Available {
    u16 flags;
    u16 index;
    u16 ring[kSize];
  };
  struct Used {
    u16 flags;
    u16 index;
    struct {
      u32 id;
      u32 length;
    } ring[kSize];
  };

  void set_address(u32 which, u32 address) {
    word(device_ + which) = address;
    word(device_ + which + 4) = 0;
  }

  alignas(16) Descriptor descriptors_[kSize];
  Available available_;
  alignas(4) Used used_;
  u32 device_;
  u16 index_;
  u16 next_;
};

}  // namespace guest

#endif  // KVM_HYPERVISOR_GUEST_VIRTIO_H_
