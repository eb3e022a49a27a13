// SPDX-License-Identifier: MIT
// A guest without an operating system: a balloon driver that follows its target, and checks after
// each step that the memory outside the balloon is as it was. A host may have to interpret each of
// its instructions, so what is done for each page is little.
#include "machine.h"
#include "virtio.h"

namespace guest {
namespace {

constexpr u32 kPageShift = 12;
constexpr u32 kPageBytes = 1 << kPageShift;

// Feature bits, status bits and configuration of the balloon (virtio 1.3, sections 5.5 and 2.1).
constexpr u32 kMustTellHost = 1 << 0;
constexpr u32 kStatsVq = 1 << 1;
constexpr u32 kChunks = 1 << 3;        // as scatter-gather was published
constexpr u32 kVersion1High = 1 << 0;  // bit 32
constexpr u32 kAcknowledge = 1;
constexpr u32 kDriver = 2;
constexpr u32 kDriverOk = 4;
constexpr u32 kFeaturesOk = 8;
constexpr u32 kTarget = kConfig;
constexpr u32 kActual = kConfig + 4;

constexpr u32 kPagesAMessage = 256;  // of page numbers, as Linux has it
constexpr u32 kPagesAChunk = 1024;   // 4 MiB, the largest block of Linux's allocator

struct [[gnu::packed]] Stat {
  u16 tag;
  u64 value;
};
constexpr u16 kFreeMemory = 4;
constexpr u16 kTotalMemory = 5;

// Rings and messages lie in the image.
Queue inflate_queue;
Queue deflate_queue;
Queue stats_queue;
u32 page_numbers[kPagesAMessage];
Stat statistics[2];

class Guest {
 public:
  explicit Guest(const machine::BootInfo& boot)
      : busy_(boot.busy),
        balloon_(static_cast<u32>(boot.low_bytes)),
        platform_(balloon_ + machine::kPlatformOffset),
        high_start_(static_cast<u32>(boot.high_start)),
        low_pages_(static_cast<u32>(boot.low_bytes - machine::kPoolStart) >> kPageShift),
        pages_(low_pages_ + (static_cast<u32>(boot.high_bytes) >> kPageShift)) {}

  bool probe();
  void fill();
  [[noreturn]] void run();
  void fail();
  u32 wait() const { return word(platform_ + machine::kWait); }

 private:
  void print(const char* text) const {
    for (; *text != 0; ++text) word(platform_ + machine::kConsole) = static_cast<u8>(*text);
  }

  // The pages of the pool are numbered in the order in which they go into the balloon.
  struct Run {
    u32 address;  // of the first page; those of the others fall
    u32 stride;   // by this
    u32 count;
  };
  Run run_at(u32 number) const;
  template <typename Use>
  void for_each(u32 first, u32 end, Use use) const;

  void resize(u32 target);
  u32 send(Queue& queue, u32 first, u32 end);
  u32 add_page_numbers(Queue& queue, u32 first, u32 end);
  u32 add_chunks(Queue& queue, u32 first, u32 end);
  void work();
  void take_back(u32 first, u32 end);
  void check();
  void post_statistics();

  bool busy_;
  u32 balloon_;   // registers
  u32 platform_;  // registers
  u32 high_start_;
  u32 low_pages_;  // of the pool
  u32 pages_;      // of the pool
  bool chunks_ = false;
  u32 ballooned_ = 0;
  u32 failures_ = 0;
  u32 writes_ = 0;
};

// ---- pages --------------------------------------------------------------------------------------

// In chunks memory goes from its end on. By page numbers every other page goes first, so that each
// page in the balloon has neighbours that must stay as they are.
Guest::Run Guest::run_at(u32 number) const {
  const u32 half = pages_ / 2;
  u32 stride = 1;
  u32 from_end = number;
  u32 count = pages_ - number;
  if (!chunks_) {
    stride = 2;
    from_end = number < half ? 2 * number + 1 : 2 * (number - half);
    if (number < half) count = half - number;
  }
  u32 place = pages_ - 1 - from_end;
  u32 start = machine::kPoolStart;
  if (place >= low_pages_) {
    place -= low_pages_;
    start = high_start_;
  }
  const u32 here = place / stride + 1;
  return {start + (place << kPageShift), stride << kPageShift, count < here ? count : here};
}

template <typename Use>
void Guest::for_each(u32 first, u32 end, Use use) const {
  while (first < end) {
    const Run run = run_at(first);
    const u32 count = run.count < end - first ? run.count : end - first;
    u32 address = run.address;
    for (u32 left = count; left != 0; --left, address -= run.stride) use(address);
    first += count;
  }
}

u32 pattern(u32 address) { return address * 2654435761u + 1; }

void Guest::fill() {
  for_each(0, pages_, [](u32 address) { word(address) = pattern(address); });
  for (u32 address = machine::kWork; address < machine::kPoolStart; address += kPageBytes) {
    word(address) = 1;
  }
}

// Pages that left the balloon: they are zeros, as the host had given them back.
void Guest::take_back(u32 first, u32 end) {
  for_each(first, end, [this](u32 address) {
    if (word(address) != 0) ++failures_;
    word(address) = pattern(address);
  });
}

void Guest::check() {
  for_each(ballooned_, pages_, [this](u32 address) {
    if (word(address) != pattern(address)) ++failures_;
  });
}

// ---- messages -----------------------------------------------------------------------------------

void Guest::resize(u32 target) {
  writes_ = 0;
  while (ballooned_ < target) ballooned_ = send(inflate_queue, ballooned_, target);
  if (target < ballooned_) {
    // Pages are the guest's again once the host was told.
    for (u32 next = target; next < ballooned_;) next = send(deflate_queue, next, ballooned_);
    take_back(target, ballooned_);
    ballooned_ = target;
  }
  word(balloon_ + kActual) = ballooned_;
}

// Tells the host about pages from number `first` on, and waits for the answer; returns the number
// behind the last one that there was room for.
u32 Guest::send(Queue& queue, u32 first, u32 end) {
  const u32 next = chunks_ ? add_chunks(queue, first, end) : add_page_numbers(queue, first, end);
  queue.publish();
  while (!queue.idle()) {
    if (busy_) work();
  }
  return next;
}

u32 Guest::add_page_numbers(Queue& queue, u32 first, u32 end) {
  if (end - first > kPagesAMessage) end = first + kPagesAMessage;
  u32* next = page_numbers;
  for_each(first, end, [&next](u32 address) { *next++ = address >> kPageShift; });
  queue.add(address_of(page_numbers), (end - first) * 4, false);
  return end;
}

u32 Guest::add_chunks(Queue& queue, u32 first, u32 end) {
  for (u32 chunks = 0; first < end && chunks < Queue::kSize; ++chunks) {
    const Run run = run_at(first);
    u32 count = run.count < end - first ? run.count : end - first;
    if (count > kPagesAChunk) count = kPagesAChunk;
    queue.add(run.address - (count - 1) * kPageBytes, count * kPageBytes, true);
    first += count;
  }
  return first;
}

// What else the guest has to do while the device works: writes, over all of its work area.
void Guest::work() {
  for (u32 address = machine::kWork; address < machine::kPoolStart; address += kPageBytes) {
    word(address) = writes_++;
  }
}

void Guest::post_statistics() {
  statistics[0] = {kFreeMemory, static_cast<u64>(pages_ - ballooned_) << kPageShift};
  statistics[1] = {kTotalMemory, static_cast<u64>(pages_) << kPageShift};
  stats_queue.add(address_of(statistics), sizeof statistics, false);
  stats_queue.publish();
}

// ---- the driver ---------------------------------------------------------------------------------

bool Guest::probe() {
  if (word(balloon_ + kMagic) != 0x74726976 || word(balloon_ + kVersion) != 2) return false;
  if (word(balloon_ + kDeviceId) != 5) return false;
  word(balloon_ + kStatus) = 0;
  word(balloon_ + kStatus) = kAcknowledge;
  word(balloon_ + kStatus) = kAcknowledge | kDriver;

  word(balloon_ + kDeviceFeaturesSel) = 1;
  if ((word(balloon_ + kDeviceFeatures) & kVersion1High) == 0) return false;
  word(balloon_ + kDeviceFeaturesSel) = 0;
  const u32 offered = word(balloon_ + kDeviceFeatures);
  const u32 needed = kMustTellHost | kStatsVq;
  if ((offered & needed) != needed) return false;
  chunks_ = (offered & kChunks) != 0;
  word(balloon_ + kDriverFeaturesSel) = 1;
  word(balloon_ + kDriverFeatures) = kVersion1High;
  word(balloon_ + kDriverFeaturesSel) = 0;
  word(balloon_ + kDriverFeatures) = offered & (needed | kChunks);
  word(balloon_ + kStatus) = kAcknowledge | kDriver | kFeaturesOk;
  if ((word(balloon_ + kStatus) & kFeaturesOk) == 0) return false;

  if (!inflate_queue.start(balloon_, 0, Queue::Interrupts::kUnwanted)) return false;
  if (!deflate_queue.start(balloon_, 1, Queue::Interrupts::kUnwanted)) return false;
  if (!stats_queue.start(balloon_, 2, Queue::Interrupts::kWanted)) return false;
  word(balloon_ + kStatus) = kAcknowledge | kDriver | kFeaturesOk | kDriverOk;
  print(chunks_ ? "guest: found a balloon, names pages in chunks\n"
                : "guest: found a balloon, names pages by number\n");
  return true;
}

// There is no balloon that it can drive.
void Guest::fail() {
  print("guest: found no balloon\n");
  word(platform_ + machine::kFailures) = 1;
}

void Guest::run() {
  post_statistics();
  for (bool booting = true;; booting = false) {
    const u32 interrupts = word(balloon_ + kInterruptStatus);
    if (interrupts != 0) word(balloon_ + kInterruptAck) = interrupts;
    if (stats_queue.idle()) post_statistics();

    const u32 target = word(balloon_ + kTarget);
    if (booting || target != ballooned_) {
      resize(target < pages_ ? target : pages_);
      word(platform_ + machine::kWrites) = writes_;
      word(platform_ + machine::kResized) = ballooned_;
      check();
      print(failures_ == 0 ? "guest: all memory is as it was\n" : "guest: MEMORY HAS CHANGED\n");
      word(platform_ + machine::kFailures) = failures_;
    }
    wait();
  }
}

}  // namespace
}  // namespace guest

// Where the processor begins: in 32-bit protected mode with flat segments, without paging.
extern "C" [[noreturn, gnu::fastcall, gnu::section(".text.entry")]] void entry(
    const machine::BootInfo& boot) {
  guest::Guest driver(boot);
  if (driver.probe()) {
    driver.fill();
    driver.run();
  }
  driver.fail();
  for (;;) driver.wait();
}
