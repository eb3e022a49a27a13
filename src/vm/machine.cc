// SPDX-License-Identifier: MIT
#include "vballoon/sim/machine.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "vballoon/transport/mmio.h"
#include "vm/device_thread.h"
#include "vm/discard_thread.h"
#include "vm/event_fd.h"
#include "vm/in_process_access.h"
#include "vm/mmio_access.h"
#include "vm/own_thread.h"

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;

DriverCounters minus(const DriverCounters& after, const DriverCounters& before) {
  DriverCounters d = after;
  d.messages -= before.messages;
  d.kicks -= before.kicks;
  d.reports -= before.reports;
  d.failed_allocations -= before.failed_allocations;
  d.migrated -= before.migrated;
  d.skipped_blocks -= before.skipped_blocks;
  d.times.allocator -= before.times.allocator;
  d.times.messages -= before.times.messages;
  for (std::size_t i = 0; i < d.allocations_by_order.size(); ++i) {
    d.allocations_by_order[i] -= before.allocations_by_order[i];
  }
  return d;
}

// owed_bytes and last_discard_errno are states, not counters.
BalloonMetrics minus(const BalloonMetrics& after, const BalloonMetrics& before) {
  BalloonMetrics d = after;
  d.inflate_messages -= before.inflate_messages;
  d.deflate_messages -= before.deflate_messages;
  d.stats_messages -= before.stats_messages;
  d.hint_messages -= before.hint_messages;
  d.report_messages -= before.report_messages;
  d.queue_bytes -= before.queue_bytes;
  d.inflated_bytes -= before.inflated_bytes;
  d.deflated_bytes -= before.deflated_bytes;
  d.reported_bytes -= before.reported_bytes;
  d.reported_freed_bytes -= before.reported_freed_bytes;
  d.hinted_bytes -= before.hinted_bytes;
  d.freed_bytes -= before.freed_bytes;
  d.forgone_bytes -= before.forgone_bytes;
  d.cancelled_bytes -= before.cancelled_bytes;
  d.discard_calls -= before.discard_calls;
  d.discard_failures -= before.discard_failures;
  d.notifications -= before.notifications;
  d.stages.decode -= before.stages.decode;
  d.stages.translate -= before.stages.translate;
  d.stages.discard -= before.stages.discard;
  d.stages.discard_behind -= before.stages.discard_behind;
  for (std::size_t i = 0; i < d.errors.size(); ++i) d.errors[i] -= before.errors[i];
  return d;
}

}  // namespace

struct Machine::Impl {
  explicit Impl(EventFd call_in) : call(std::move(call_in)) {}

  [[nodiscard]] nanoseconds device_system_time() const {
    return thread ? thread->system_time() + discards->system_time() : thread_system_time();
  }
  [[nodiscard]] Result<void> make_device(std::shared_ptr<const GuestMemory> memory,
                                         std::unique_ptr<Discarder> discarder,
                                         const MachineOptions& options);
  [[nodiscard]] Result<void> connect_driver();
  void kick(std::uint16_t queue);
  nanoseconds drain();
  [[nodiscard]] bool run(const std::function<bool()>& keep_going);
  [[nodiscard]] bool let_device_answer();

  Clock clock;
  NotifyMode notify = NotifyMode::kEventfd;
  nanoseconds watch{0};
  const EventFd call;  // the device's interrupts
  Trace* trace = nullptr;
  std::uint32_t kicked = 0;             // kDirect: a bit a queue
  std::unique_ptr<MmioTransport> mmio;  // has the device, or
  std::unique_ptr<BalloonDevice> own_device;
  BalloonDevice* device = nullptr;
  std::unique_ptr<DiscardThread> discards;  // woken by the other, which ends first
  std::unique_ptr<DeviceThread> thread;
  std::unique_ptr<DeviceAccess> access;
  MmioAccess* registers = nullptr;  // the same, if the driver has nothing else
  std::unique_ptr<BalloonDriver> driver;
};

// Has done what is still owed; returns the system time that it took of this thread, if that is not
// the one that serves the device.
nanoseconds Machine::Impl::drain() {
  const nanoseconds before = thread_system_time();
  device->drain();
  return thread ? thread_system_time() - before : nanoseconds(0);
}

void Machine::Impl::kick(std::uint16_t queue) {
  if (thread) {
    thread->kick(queue);
  } else {
    kicked |= 1U << queue;
  }
}

// Steps the driver until it has nothing to do, or is short of memory, or is stopped. True when
// the device has answered all that was sent.
bool Machine::Impl::run(const std::function<bool()>& keep_going) {
  while (!keep_going || keep_going()) {
    const auto wait = driver->step(clock()).kind;
    if (wait != DriverWait::Kind::kUsedBuffer) return wait != DriverWait::Kind::kNeedsReset;
    if (!let_device_answer()) return false;
  }
  return false;
}

Result<void> Machine::Impl::make_device(std::shared_ptr<const GuestMemory> memory,
                                        std::unique_ptr<Discarder> discarder,
                                        const MachineOptions& options) {
  BalloonOptions wanted = options.device;
  trace = wanted.trace;
  wanted.discards_owed = [this] {
    if (discards) discards->wake();
  };
  wanted.wake = [this](std::uint16_t queue) { kick(queue); };
  if (options.mmio) {
    MmioOptions window{.queue_notify = [this](std::uint16_t queue) { kick(queue); }};
    if (notify == NotifyMode::kEventfd) {
      window.interrupt_line = [this](bool asserted) {
        if (asserted) call.signal();
      };
    }
    auto made = MmioTransport::create(std::move(memory), std::move(discarder), std::move(wanted),
                                      std::move(window));
    if (!made) return tl::unexpected(made.error());
    mmio = std::move(*made);
    device = &mmio->device();
    return {};
  }
  if (notify == NotifyMode::kEventfd) {
    wanted.notify_queue = [this](std::uint16_t) { call.signal(); };
    wanted.notify_config = [this] { call.signal(); };
  }
  auto made = BalloonDevice::create(std::move(memory), std::move(discarder), std::move(wanted));
  if (!made) return tl::unexpected(made.error());
  own_device = std::move(*made);
  device = own_device.get();
  return {};
}

Result<void> Machine::Impl::connect_driver() {
  if (!mmio) {
    access = std::make_unique<InProcessAccess>(*device, [this](std::uint16_t queue) {
      if (trace != nullptr) trace->kick(queue);
      kick(queue);
    });
    return {};
  }
  auto found = MmioAccess::probe(window_of(*mmio));
  if (!found) return tl::unexpected(found.error());
  registers = found->get();
  access = std::move(*found);
  return {};
}

// False when no answer can come. A direct device is served here and not within its kick, so that
// the driver comes back to the machine after each message.
bool Machine::Impl::let_device_answer() {
  if (notify == NotifyMode::kEventfd) {
    call.wait(watch);
    // Before the driver looks. Only a line that was down is asserted again.
    while (registers != nullptr && registers->take_interrupt() != 0) {
    }
    return true;
  }
  const std::uint32_t queues = std::exchange(kicked, 0);
  for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
    if ((queues >> queue & 1) == 0) continue;
    while (device->process(queue)) {
    }
  }
  return queues != 0;
}

Machine::Machine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::start(std::shared_ptr<const GuestMemory> memory,
                                                PageAllocator& allocator,
                                                std::unique_ptr<Discarder> discarder,
                                                const MachineOptions& options) {
  auto call = EventFd::create();
  auto kick = EventFd::create();
  auto owed = EventFd::create();
  for (const auto* event : {&call, &kick, &owed}) {
    if (!*event) return tl::unexpected(event->error());
  }
  auto impl = std::make_unique<Impl>(std::move(*call));
  impl->notify = options.notify;
  impl->watch = options.watch;

  impl->clock = options.device.clock ? options.device.clock : steady_clock();
  if (auto made = impl->make_device(memory, std::move(discarder), options); !made) {
    return tl::unexpected(made.error());
  }
  if (options.notify == NotifyMode::kEventfd) {
    impl->discards = std::make_unique<DiscardThread>(*impl->device, std::move(*owed));
    impl->thread = std::make_unique<DeviceThread>(*impl->device, std::move(*kick), options.watch);
  }
  if (auto found = impl->connect_driver(); !found) return tl::unexpected(found.error());

  DriverOptions driver_options = options.driver;
  driver_options.dialect = options.device.dialect;
  driver_options.dialect_bit = options.device.dialect_bit;
  driver_options.guest_requests = options.device.guest_requests;
  driver_options.guest_requests_bit = options.device.guest_requests_bit;
  driver_options.clock = impl->clock;
  driver_options.let_device_answer = [m = impl.get()] { return m->let_device_answer(); };
  auto driver = BalloonDriver::probe(*impl->access, std::move(memory), allocator, driver_options);
  if (!driver) return tl::unexpected(driver.error());
  impl->driver = std::move(*driver);
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

Result<ResizeReport> Machine::resize(std::uint64_t balloon_pages,
                                     const std::function<bool()>& keep_going) {
  const DriverCounters driver_before = impl_->driver->counters();
  const BalloonMetrics device_before = impl_->device->metrics();
  const std::uint64_t pages_before = impl_->driver->ballooned_pages();
  const nanoseconds kernel_before = impl_->device_system_time();
  const nanoseconds begin = impl_->clock();

  if (auto set = impl_->device->set_target_pages(balloon_pages); !set) {
    return tl::unexpected(set.error());
  }
  const bool answered = impl_->run(keep_going);
  const nanoseconds drained = impl_->drain();

  const nanoseconds end = impl_->clock();
  const std::uint64_t pages = impl_->driver->ballooned_pages();
  ResizeReport report;
  report.reached = answered && pages == balloon_pages;
  report.pages = pages > pages_before ? pages - pages_before : pages_before - pages;
  // Waits for the device's thread, which books a message's end after it has answered it.
  report.kernel = impl_->device_system_time() - kernel_before + drained;
  report.driver = minus(impl_->driver->counters(), driver_before);
  report.device = minus(impl_->device->metrics(), device_before);
  // Without a message in this resize the last answer is an older one's.
  report.guest = std::max(report.driver.times.last_answer - begin, nanoseconds(0));
  const bool discarded = report.device.discard_calls != 0;
  report.wall = discarded ? report.device.stages.last_discard_end - begin : end - begin;
  report.stages.allocate = report.driver.times.allocator;
  report.stages.translate = report.device.stages.translate;
  report.stages.discard = report.device.stages.discard;
  const nanoseconds awaited = report.stages.discard - report.device.stages.discard_behind;
  report.stages.send = report.driver.times.messages - report.stages.translate - awaited;
  report.overlap = std::max(nanoseconds(0), report.stages.allocate + report.stages.send +
                                                report.stages.translate + report.stages.discard -
                                                std::max(report.wall, report.guest));
  return report;
}

void Machine::settle() {
  if (impl_->thread) {
    static_cast<void>(impl_->thread->system_time());  // known when all is served
    return;
  }
  while (impl_->let_device_answer()) {
  }
}

BalloonDevice& Machine::device() { return *impl_->device; }
const BalloonDevice& Machine::device() const { return *impl_->device; }
BalloonDriver& Machine::driver() { return *impl_->driver; }

}  // namespace vballoon::sim
