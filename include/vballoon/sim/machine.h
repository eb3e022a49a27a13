// SPDX-License-Identifier: MIT
// A virtual machine in this process: a simulated guest and a balloon device.      room: vm
#ifndef VBALLOON_SIM_MACHINE_H_
#define VBALLOON_SIM_MACHINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "vballoon/balloon_device.h"
#include "vballoon/export.h"
#include "vballoon/result.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

// How a kick reaches the device and an interrupt the driver.
enum class NotifyMode : std::uint8_t {
  kDirect,   // by call: guest and device share a thread
  kEventfd,  // the device has a thread of its own, as with ioeventfd or vhost
};

struct MachineOptions {
  // The machine sets the driver's dialect, its bits and its clock from the device's, its
  // let_device_answer, the device's wake and discards_owed, and with kEventfd its notify_queue and
  // notify_config. Discards that are written behind have a thread of their own with kEventfd, and
  // are done at the end of a resize with kDirect.
  BalloonOptions device = {};
  DriverOptions driver = {};
  NotifyMode notify = NotifyMode::kEventfd;
  // The driver has nothing of the device but the registers of virtio-mmio.
  bool mmio = false;
  // With kEventfd: how long the device's thread watches the rings before it sleeps, and the
  // guest's its interrupt, as KVM does for a vCPU that halts.
  std::chrono::nanoseconds watch{0};
};

// What one resize took and did.
struct ResizeReport {
  bool reached = false;     // false: the guest ran short of memory, or was told to stop
  std::uint64_t pages = 0;  // that entered or left the balloon

  // From the new target until the kernel had taken the last byte, or, when nothing was discarded,
  // until the guest was done.
  std::chrono::nanoseconds wall{0};
  std::chrono::nanoseconds guest{0};  // until the driver saw its last answer
  // Where the time went: taking pages from the allocator or giving them back; encoding, queueing,
  // waiting, decoding and returning; checking, booking and translating; the kernel calls.
  struct Stages {
    std::chrono::nanoseconds allocate{0};
    std::chrono::nanoseconds send{0};
    std::chrono::nanoseconds translate{0};
    std::chrono::nanoseconds discard{0};
  } stages;
  std::chrono::nanoseconds kernel{0};  // system time of the thread that serves the device
  // How much longer the stages took than the resize: what was done at the same time.
  std::chrono::nanoseconds overlap{0};

  DriverCounters driver;  // of this resize only, as is the next
  BalloonMetrics device;  // owed_bytes: at its end
};

class VBALLOON_EXPORT Machine {
 public:
  // Makes the device and probes it with the driver. `allocator` must outlive the machine.
  [[nodiscard]] static Result<std::unique_ptr<Machine>> start(
      std::shared_ptr<const GuestMemory> memory, PageAllocator& allocator,
      std::unique_ptr<Discarder> discarder, const MachineOptions& options = {});

  ~Machine();

  // Sets the balloon's target and runs the guest on this thread until it is reached, until the
  // guest runs short of memory, or until keep_going, asked between messages, says no; the next call
  // then goes on with the message in flight. Fails as BalloonDevice::set_target_pages() does. One
  // thread at a time.
  [[nodiscard]] Result<ResizeReport> resize(std::uint64_t balloon_pages,
                                            const std::function<bool()>& keep_going = {});

  // Returns when the device has served all kicks, and touches guest memory no more before the next
  // one: for a guest that was stopped and is about to be saved. With kDirect on the guest's thread;
  // not for a machine that watches its rings.
  void settle();

  [[nodiscard]] BalloonDevice& device();
  [[nodiscard]] const BalloonDevice& device() const;
  [[nodiscard]] BalloonDriver& driver();

 private:
  struct Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_MACHINE_H_
