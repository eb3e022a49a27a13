// SPDX-License-Identifier: MIT
// A small hypervisor on KVM: one virtual machine, one virtual processor, and a balloon behind
// virtio-mmio. docs/hypervisor.md walks through it.
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <thread>

#include "guest/machine.h"
#include "vballoon/transport/mmio.h"

using std::chrono::steady_clock;

// What a call answers, unless it failed: one of the system, and one of the library.
int check(int answer, const char* call) {
  if (answer < 0) throw std::system_error(errno, std::generic_category(), call);
  return answer;
}
template <typename T>
T must(vballoon::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// What the system gives, as objects that give it back; not to be copied.
struct Descriptor {
  Descriptor(int answer, const char* call) : fd(check(answer, call)) {}
  ~Descriptor() { close(fd); }
  Descriptor& operator=(Descriptor&&) = delete;
  const int fd;
};
struct Mapping {
  Mapping(std::size_t size, int flags, int fd = -1)
      : bytes(size), address(mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0)) {
    if (address == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  }
  ~Mapping() { munmap(address, bytes); }
  Mapping& operator=(Mapping&&) = delete;
  std::uint64_t resident_bytes() const {
    std::vector<unsigned char> pages(bytes / 4096);
    check(mincore(address, bytes, pages.data()), "mincore");
    return 4096 * std::ranges::count_if(pages, [](auto page) { return (page & 1) != 0; });
  }
  const std::size_t bytes;
  void* const address;
};

struct Step {
  std::uint64_t target_bytes = 0;
  unsigned second = 0;  // not before that, and not before the last step is done
};

struct Options {
  std::uint64_t memory_bytes = 1 << 30;
  std::vector<Step> schedule = {{512 << 20}, {}};
  std::string mode = "pfn", discard = "vectored";
  bool exits = false, busy = false, migrate = false;
};

// A step as it stands on the command line: 512MiB@1s.
std::istream& operator>>(std::istream& text, Step& step) {
  std::string size, unit;
  std::getline(text, size, '@') >> step.second >> unit;
  if (unit != "s" || !CLI::AsSizeValue(false)(size).empty()) text.setstate(std::ios::failbit);
  std::istringstream(size) >> step.target_bytes;
  return text;
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--memory", options.memory_bytes)
      ->transform(CLI::AsSizeValue(false) & CLI::Range(64u << 20, 3u << 30));
  app.add_option("--target", options.schedule, "512MiB@1s,0MiB@3s")->delimiter(',');
  app.add_option("--mode", options.mode)->check(CLI::IsMember({"pfn", "chunk"}));
  app.add_option("--discard", options.discard)->check(CLI::IsMember({"per-page", "vectored"}));
  app.add_flag("--exits", options.exits, "no thread for the device: kicks are exits");
  app.add_flag("--busy", options.busy, "the guest writes while the device works");
  app.add_flag("--migrate", options.migrate, "replace the device in the first step");
}

class Machine {
 public:
  explicit Machine(const Options& options) : options_(options) {
    lend_memory();
    load_guest();
    transport_ = make_transport();
    if (options_.exits) return;
    // KVM turns what the guest writes to QueueNotify into an eventfd, without an exit.
    const kvm_ioeventfd kicks{
        .addr = low_.bytes + vballoon::kMmioQueueNotify, .len = 4, .fd = kick_.fd};
    check(ioctl(vm_.fd, KVM_IOEVENTFD, &kicks), "KVM_IOEVENTFD");
  }

  // ---- 1. the machine ---------------------------------------------------------------------------
 private:
  // The same two mappings for the device and for KVM, with a hole between them.
  void lend_memory() {
    const vballoon::BorrowedRegion regions[] = {
        {.bytes = low_.bytes, .host = low_.address},
        {.guest_address = high_start_, .bytes = high_.bytes, .host = high_.address}};
    memory_ = must(vballoon::GuestMemory::borrow(regions));
    kvm_userspace_memory_region ram{};
    for (const vballoon::MemoryRegion& region : memory_->regions()) {
      ram.guest_phys_addr = region.guest_address;
      ram.memory_size = region.bytes;
      ram.userspace_addr = std::bit_cast<std::uint64_t>(region.host);
      check(ioctl(vm_.fd, KVM_SET_USER_MEMORY_REGION, &ram), "KVM_SET_USER_MEMORY_REGION");
      ++ram.slot;
    }
  }

  // 32-bit protected mode with flat segments and no paging, at the first byte of the image.
  void load_guest() {
    std::ifstream file(GUEST_IMAGE, std::ios::binary);
    const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
    const machine::BootInfo boot{low_.bytes, high_start_, high_.bytes, options_.busy};
    if (image.empty() || !memory_->write(machine::kImage, std::as_bytes(std::span(image))) ||
        !memory_->write(machine::kBootInfo, std::as_bytes(std::span(&boot, 1)))) {
      throw std::runtime_error("there is no guest in " GUEST_IMAGE);
    }
    kvm_sregs system{};
    check(ioctl(processor_.fd, KVM_GET_SREGS, &system), "KVM_GET_SREGS");
    kvm_segment segment{
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    system.cs = segment;
    segment.selector = 16;
    segment.type = 3;  // data
    system.ds = system.es = system.fs = system.gs = system.ss = segment;
    system.cr0 |= 1;  // protected mode
    check(ioctl(processor_.fd, KVM_SET_SREGS, &system), "KVM_SET_SREGS");
    const kvm_regs registers{
        .rcx = machine::kBootInfo, .rsp = machine::kStackTop, .rip = machine::kImage, .rflags = 2};
    check(ioctl(processor_.fd, KVM_SET_REGS, &registers), "KVM_SET_REGS");
  }

  // ---- 2. the balloon ---------------------------------------------------------------------------
  std::unique_ptr<vballoon::MmioTransport> make_transport() {
    vballoon::BalloonOptions device;
    device.features = {vballoon::Feature::kMustTellHost, vballoon::Feature::kStatsVq};
    if (options_.mode == "chunk") device.dialect = vballoon::Dialect::kScatterGather;
    device.budget.pages = 4096;  // so that stop() need not wait for long
    device.wake = [this](std::uint16_t) {
      tell([this] { work_ = true; });
      eventfd_write(kick_.fd, 1);
    };
    device.news = [this] { tell([] {}); };  // of the guest's: statistics, for one
    device.log = [](vballoon::LogLevel, std::string_view text) { std::cout << text << '\n'; };
    vballoon::MmioOptions registers;
    registers.interrupt_line = [this](bool level) { tell([&] { interrupt_ = level; }); };
    registers.queue_notify = [this](std::uint16_t) {  // not where kicks go to an eventfd
      ++kicks_;
      work_ = true;
    };
    auto discarder = vballoon::make_kernel_discarder(
        {.strategy = *vballoon::parse_discard_strategy(options_.discard)});
    return must(vballoon::MmioTransport::create(memory_, std::move(discarder), device, registers));
  }

  void run_device(const std::stop_token& stop) {
    const std::stop_callback leave(stop, [this] { eventfd_write(kick_.fd, 1); });
    while (!stop.stop_requested()) {
      eventfd_t kicks = 0;
      eventfd_read(kick_.fd, &kicks);
      kicks_ += kicks;
      serve(stop);
    }
  }

  void serve(const std::stop_token& stop) {
    for (std::uint16_t queue = 0; queue < vballoon::kMaxBalloonQueues; ++queue) {
      while (!stop.stop_requested() && balloon().process(queue)) continue;
    }
  }

  // ---- 3. the processor -------------------------------------------------------------------------
  void run_processor(const std::stop_token& stop) {
    kvm_run& run = *std::bit_cast<kvm_run*>(run_.address);
    run.immediate_exit = 0;
    const std::stop_callback leave(stop, [&run, thread = pthread_self()] {
      std::atomic_ref(run.immediate_exit) = 1;
      pthread_kill(thread, SIGUSR1);
    });
    while (!stop.stop_requested()) {
      if (options_.exits && work_.exchange(false)) serve(stop);
      const int answer = ioctl(processor_.fd, KVM_RUN, 0);
      if (answer < 0 && errno == EINTR) continue;
      if (answer < 0 || run.exit_reason != KVM_EXIT_MMIO) return tell([this] { dead_ = true; });
      ++exits_;
      access(run.mmio, stop);
    }
  }

  // The guest touched what is no memory: registers of the balloon, or of the platform.
  void access(decltype(kvm_run::mmio)& mmio, const std::stop_token& stop) {
    const std::uint64_t offset = mmio.phys_addr - low_.bytes;
    const std::uint64_t platform = offset - machine::kPlatformOffset;
    std::uint64_t value = 0;
    if (mmio.is_write != 0) {
      std::memcpy(&value, mmio.data, mmio.len);
      if (offset >= vballoon::kMmioBytes) return write_platform(platform, value);
      return transport_->write(offset, mmio.len, value);
    }
    if (offset < vballoon::kMmioBytes) value = transport_->read(offset, mmio.len);
    if (platform == machine::kWait) {
      std::unique_lock guard(lock_);
      changed_.wait(guard, stop, [this] { return interrupt_ || (work_ && options_.exits); });
    }
    std::memcpy(mmio.data, &value, mmio.len);
  }

  void write_platform(std::uint64_t which, std::uint64_t value) {
    if (which == machine::kConsole) std::putchar(value);
    if (which == machine::kResized) guest_.resized = steady_clock::now();
    if (which == machine::kWrites) guest_.writes = value;
    if (which != machine::kFailures) return;
    guest_.failures = value;
    tell([this] { ++guest_.steps; });
  }

  // ---- 4. control -------------------------------------------------------------------------------
 public:
  // What the guest has said, complete after each step.
  struct Guest {
    std::uint64_t steps = 0, failures = 0, writes = 0;
    steady_clock::time_point resized = {};
  };

  void start() {
    processor_thread_ = std::jthread([this](const std::stop_token& stop) { run_processor(stop); });
    if (options_.exits) return;
    device_thread_ = std::jthread([this](const std::stop_token& stop) { run_device(stop); });
  }
  // Between two instructions of the guest, and between two turns of the device.
  void stop() {
    processor_thread_ = {};  // asks the thread to stop, and waits until it has
    device_thread_ = {};
  }
  // The device of a stopped machine goes, and another one goes on in its place.
  void migrate() {
    const std::vector<std::byte> state = transport_->save();
    transport_.reset();
    transport_ = make_transport();
    must(transport_->restore(state));
  }

  template <typename Condition>
  void wait_until(Condition holds) {
    std::unique_lock guard(lock_);
    changed_.wait_for(guard, std::chrono::minutes(5), [&] { return holds() || dead_; });
    if (!holds()) throw std::runtime_error("the guest has stopped, or does not answer");
  }

  const Guest& guest() const { return guest_; }
  vballoon::BalloonDevice& balloon() { return transport_->device(); }
  std::uint64_t resident_bytes() const { return low_.resident_bytes() + high_.resident_bytes(); }
  std::uint64_t exits() const { return exits_; }
  std::uint64_t kicks() const { return kicks_; }

 private:
  // Changes what others wait for.
  template <typename Change>
  void tell(Change change) {
    const std::lock_guard guard(lock_);
    change();
    changed_.notify_all();
  }

  static constexpr int kRam = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const Options options_;
  const Mapping low_{options_.memory_bytes / 2, kRam}, high_{low_.bytes, kRam};
  const std::uint64_t high_start_ = low_.bytes + machine::kHoleBytes;
  std::shared_ptr<const vballoon::GuestMemory> memory_;
  const Descriptor kvm_{open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm"};
  const Descriptor vm_{ioctl(kvm_.fd, KVM_CREATE_VM, 0), "KVM_CREATE_VM"};
  const Descriptor processor_{ioctl(vm_.fd, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"};
  const Descriptor kick_{eventfd(0, EFD_CLOEXEC), "eventfd"};
  const Mapping run_ = Mapping(check(ioctl(kvm_.fd, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_RUN"),
                               MAP_SHARED, processor_.fd);
  std::unique_ptr<vballoon::MmioTransport> transport_;

  std::mutex lock_;
  std::condition_variable_any changed_;
  bool interrupt_ = false;          // the level of the balloon's line
  bool dead_ = false;               // the processor cannot go on
  std::atomic<bool> work_ = false;  // there may be work for a device that has no thread
  std::atomic<std::uint64_t> exits_ = 0, kicks_ = 0;
  Guest guest_;
  std::jthread device_thread_, processor_thread_;  // the first to go
};

// ---- 5. a run of the program --------------------------------------------------------------------

struct Checks {
  unsigned held = 0, failed = 0;
  void hold(bool holds, const char* what) {
    ++(holds ? held : failed);
    if (!holds) std::printf("FAILED: %s\n", what);
  }
};

double mib(std::uint64_t bytes) { return bytes / 1048576.0; }

// As soon as half of what the balloon is to hold is in it.
void migrate_at_half(Machine& machine, Checks& checks) {
  const std::uint64_t pages = machine.balloon().target_pages();
  for (int ms = 0; machine.balloon().ballooned_pages() < pages / 2 && ms < 60'000; ++ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  machine.stop();
  const std::uint64_t there = machine.balloon().ballooned_pages();
  std::printf("migrating with %.0f MiB in the balloon\n", mib(there * vballoon::kPageSize));
  checks.hold(there > 0 && there < pages, "the balloon was on its way");
  machine.migrate();
  checks.hold(machine.balloon().ballooned_pages() == there, "the new device knows the balloon");
  machine.start();
}

// Asks for a size of the balloon, waits for the guest, and asks everybody what came of it.
void take_step(Machine& machine, const Options& options, std::size_t number, Checks& checks) {
  const std::uint64_t target = options.schedule[number].target_bytes;
  const std::uint64_t pages = target / vballoon::kPageSize;
  if (machine.balloon().target_pages() == pages) return;  // a guest that is there does nothing
  const Machine::Guest& guest = machine.guest();
  const std::uint64_t steps = guest.steps;
  const auto asked = steady_clock::now();
  must(machine.balloon().set_target_bytes(target));
  if (options.migrate && number == 0) migrate_at_half(machine, checks);
  machine.wait_until([&] { return guest.steps == steps + 1; });
  must(machine.balloon().request_stats(std::chrono::seconds(10)));
  machine.wait_until([&] { return !machine.balloon().stats().requested; });
  const auto stats = machine.balloon().stats().latest.value_or(vballoon::BalloonStats());

  const std::chrono::duration<double, std::milli> took = guest.resized - asked;
  const double resident = mib(machine.resident_bytes());
  const double expected = mib(options.memory_bytes - target);
  std::printf("balloon %4.0f MiB in %6.0f ms, resident %7.2f MiB (%+.2f %%)", mib(target),
              took.count(), resident, 100 * (resident / expected - 1));
  std::printf("; so far %lu exits, %lu kicks\n", machine.exits(), machine.kicks());
  if (guest.writes != 0) std::printf("guest: %.0f writes/ms\n", guest.writes / took.count());
  checks.hold(guest.failures == 0, "the guest's memory is as it was");
  checks.hold(machine.balloon().actual_pages() == pages, "the guest is where it was sent");
  checks.hold(machine.balloon().ballooned_pages() == pages, "the device has booked as much");
  const auto total = stats.value(vballoon::StatTag::kTotalMemory);
  const auto free = stats.value(vballoon::StatTag::kFreeMemory);
  checks.hold(total && free && *total - *free == target, "the guest's statistics say so too");
  checks.hold(std::abs(resident - expected) <= expected / 100, "the kernel has got the memory");
}

void check_device(const vballoon::BalloonMetrics& metrics, Checks& checks) {
  const std::chrono::duration<double, std::micro> discarding = metrics.stages.discard;
  std::printf("device: inflated %.0f MiB, deflated %.0f MiB, freed %.0f MiB",
              mib(metrics.inflated_bytes), mib(metrics.deflated_bytes), mib(metrics.freed_bytes));
  std::printf(" by %lu calls, %.3f us a page; %lu interrupts\n", metrics.discard_calls,
              discarding.count() / (metrics.freed_bytes / vballoon::kPageSize),
              metrics.notifications);
  checks.hold(metrics.freed_bytes == metrics.inflated_bytes, "the kernel took all that was named");
  checks.hold(metrics.counted_errors().empty(), "the guest made no mistake");
}

int main(int argc, char** argv) try {
  std::signal(SIGUSR1, [](int) {});  // interrupts KVM_RUN
  Options options;
  CLI::App app("A small hypervisor on KVM, with a guest that has a balloon");
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  Checks checks;
  Machine machine(options);
  machine.start();
  machine.wait_until([&] { return machine.guest().steps == 1; });
  checks.hold(machine.guest().failures == 0, "the guest has booted");
  const auto booted = steady_clock::now();
  for (std::size_t i = 0; i < options.schedule.size(); ++i) {
    std::this_thread::sleep_until(booted + std::chrono::seconds(options.schedule[i].second));
    take_step(machine, options, i, checks);
  }
  machine.stop();
  check_device(machine.balloon().metrics(), checks);
  std::printf("%u checks held, %u failed\n", checks.held, checks.failed);
  return checks.failed == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
