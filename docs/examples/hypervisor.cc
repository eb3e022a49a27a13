// SPDX-License-Identifier: MIT
// A hypervisor-shaped program: it brings its own guest memory and its own event loop, and links
// the balloon as a library. A simulated driver on a thread of its own stands in for the guest.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "vballoon/balloon_device.h"
#include "vballoon/sim/balloon_driver.h"

namespace {

constexpr std::uint64_t kGuestBytes = 128 << 20;
constexpr std::uint64_t kBalloonBytes = 96 << 20;

template <typename T>
T must(vballoon::Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "error: %s\n", result.error().message().c_str());
    std::exit(1);
  }
  return std::move(*result);
}

void signal(int fd) { static_cast<void>(eventfd_write(fd, 1)); }

// What a guest's accesses to the device's registers arrive at. In a real hypervisor these calls
// come from the exits of a vCPU, and the kicks through ioeventfd.
class Registers final : public vballoon::sim::DeviceAccess {
 public:
  Registers(vballoon::BalloonDevice& device, std::array<int, 2> kicks)
      : device_(device), kicks_(kicks) {}
  vballoon::Features read_features() override { return device_.offered_features(); }
  void write_features(vballoon::Features f) override { device_.write_features(f); }
  std::uint8_t read_status() override { return device_.read_status(); }
  void write_status(std::uint8_t status) override { device_.write_status(status); }
  std::uint32_t read_config(std::uint64_t offset) override {
    std::uint32_t value = 0;  // the configuration is little-endian, as is this machine
    device_.read_config(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write_config(std::uint64_t offset, std::uint32_t value) override {
    device_.write_config(offset, std::as_bytes(std::span(&value, 1)));
  }
  vballoon::Result<void> set_queue(std::uint16_t index,
                                   const vballoon::QueueConfig& config) override {
    return device_.set_queue(index, config);
  }
  vballoon::Result<void> reset_queue(std::uint16_t index) override {
    device_.reset_queue(index);
    return {};
  }
  void notify(std::uint16_t queue) override { signal(kicks_[queue]); }

 private:
  vballoon::BalloonDevice& device_;
  std::array<int, 2> kicks_;
};

// The guest, never short of memory: steps its driver and sleeps on the interrupt until told off.
void run_guest(vballoon::sim::BalloonDriver& driver, int interrupt, const std::atomic<bool>& off) {
  while (!off) {
    static_cast<void>(driver.step(vballoon::steady_clock()()));
    eventfd_t count = 0;
    static_cast<void>(eventfd_read(interrupt, &count));
  }
}

// The hypervisor's event loop: serves the queue whose kick came, until the balloon has its size.
void run_until(vballoon::BalloonDevice& device, int epoll, std::uint64_t pages) {
  while (device.actual_pages() != pages) {
    epoll_event event{};
    if (epoll_wait(epoll, &event, 1, 10) != 1) continue;
    const auto queue = static_cast<std::uint16_t>(event.data.u32);
    while (device.process(queue)) {
    }
  }
}

std::uint64_t file_bytes(int fd) {
  struct stat status {};
  fstat(fd, &status);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

}  // namespace

int main() {
  // 1. Guest memory is the hypervisor's own: here a memory file, as for vhost-user.
  const int file = memfd_create("guest", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, kGuestBytes) != 0) return 1;
  void* mapping = mmap(nullptr, kGuestBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapping == MAP_FAILED) return 1;
  std::memset(mapping, 1, kGuestBytes);
  const vballoon::BorrowedRegion region{
      .guest_address = 0, .bytes = kGuestBytes, .host = mapping, .fd = file, .shared = true};
  const auto memory = must(vballoon::GuestMemory::borrow({&region, 1}));

  // 2. The device. Interrupts go wherever the hypervisor wants them.
  const int interrupt = eventfd(0, EFD_CLOEXEC);
  const std::array kicks{eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
  vballoon::BalloonOptions options;
  options.notify_queue = [&](std::uint16_t) { signal(interrupt); };
  options.notify_config = [&] { signal(interrupt); };
  options.log = [](vballoon::LogLevel, std::string_view text) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
  };
  const auto device = must(vballoon::BalloonDevice::create(
      memory, vballoon::make_kernel_discarder(), std::move(options)));

  // 3. The guest boots and finds the device.
  Registers registers(*device, kicks);
  const vballoon::PageRange zone{0, kGuestBytes >> vballoon::kPageShift};
  vballoon::sim::PageAllocator allocator({&zone, 1});
  const auto driver = must(vballoon::sim::BalloonDriver::probe(registers, memory, allocator));
  std::atomic<bool> off = false;
  std::thread guest([&] { run_guest(*driver, interrupt, off); });

  // 4. The event loop, and a target that somebody asked for.
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (std::uint32_t i = 0; i < kicks.size(); ++i) {
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u32 = i}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, kicks[i], &event);
  }
  const std::uint64_t full = file_bytes(file);
  if (!device->set_target_bytes(kBalloonBytes)) return 1;
  run_until(*device, epoll, kBalloonBytes >> vballoon::kPageShift);
  const std::uint64_t freed = full - file_bytes(file);
  std::printf("the kernel took %llu MiB back\n", static_cast<unsigned long long>(freed >> 20));
  if (!device->set_target_bytes(0)) return 1;
  run_until(*device, epoll, 0);

  off = true;
  signal(interrupt);
  guest.join();
  return freed == kBalloonBytes ? 0 : 1;
}
