// SPDX-License-Identifier: MIT
#include "thp_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>
#include <utility>

#include "vballoon/guest_memory.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {
namespace {

constexpr std::uint64_t kHugePageBytes = 2 * kMiB;

// Of the mappings that lie in a region.
std::uint64_t huge_pages_of(const MemoryRegion& region) {
  constexpr std::string_view kField = "AnonHugePages:";
  const auto first = reinterpret_cast<std::uintptr_t>(region.host);
  std::uint64_t kib = 0;
  bool inside = false;
  std::ifstream smaps("/proc/self/smaps");
  for (std::string line; std::getline(smaps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin >= first && end <= first + region.bytes;
    } else if (inside && line.starts_with(kField)) {
      kib += std::stoull(line.substr(kField.size()));
    }
  }
  return kib * 1024 / kHugePageBytes;
}

std::uint32_t pages_of(std::uint64_t bytes) {
  return static_cast<std::uint32_t>(bytes >> kPageShift);
}

// The guest before its balloon comes.
class ThpGuest {
 public:
  ThpGuest(std::shared_ptr<const GuestMemory> memory, bool compaction)
      : memory_(std::move(memory)),
        zone_{{0, memory_->regions().front().bytes >> kPageShift}},
        allocator_(zone_),
        kernel_(allocator_, {.memory = memory_, .compaction = compaction}) {}

  [[nodiscard]] sim::PageAllocator& allocator() { return allocator_; }
  [[nodiscard]] sim::GuestKernel& kernel() { return kernel_; }
  [[nodiscard]] std::uint64_t huge_pages() const {
    return huge_pages_of(memory_->regions().front());
  }

  // Pages that nobody can move.
  [[nodiscard]] bool boot(std::uint64_t bytes) {
    for (std::uint64_t left = bytes >> kPageShift; left != 0;) {
      const auto largest = static_cast<unsigned>(std::bit_width(left)) - 1;
      const auto block =
          kernel_.allocate(std::min(largest, sim::kMaxOrder), sim::AllocationEffort::kFreeOnly);
      if (!block) return false;
      const std::uint64_t block_bytes = block->pages().bytes();
      std::memset(memory_->host(block->first << kPageShift, block_bytes), 1, block_bytes);
      left -= block->pages().count;
    }
    return true;
  }
  // One that uses so much, in place of the one before.
  [[nodiscard]] bool run_process(std::uint64_t bytes) {
    if (kernel_.alive(process_)) kernel_.exit(process_);
    process_ = kernel_.start_process();
    return kernel_.touch(process_, 0, pages_of(bytes));
  }
  void punch_holes(std::uint64_t bytes) {
    for (std::uint32_t page = 0; page < pages_of(bytes); page += 2) {
      kernel_.unmap(process_, page, 1);
    }
  }

 private:
  std::shared_ptr<const GuestMemory> memory_;
  std::array<PageRange, 1> zone_;
  sim::PageAllocator allocator_;
  sim::GuestKernel kernel_;
  sim::ProcessId process_ = 0;
};

}  // namespace

Result<ThpRun> run_thp(Dialect mode, bool compaction, const ThpPlan& plan) {
  auto memory = GuestMemory::allocate(std::array{RegionLayout{0, plan.guest_memory}},
                                      {Backing::kAnonymous, ThpMode::kOn});
  if (!memory) return tl::unexpected(memory.error());
  ThpGuest guest(*memory, compaction);
  if (!guest.boot(plan.kernel) || !guest.run_process(plan.process)) {
    return fail(Errc::kInvalidArgument, "the guest has not that much memory");
  }
  ThpRun run;
  run.huge_before = guest.huge_pages();
  if (run.huge_before == 0) {
    return fail(Errc::kNotSupported,
                "the kernel gives no transparent huge pages; write madvise or always into "
                "/sys/kernel/mm/transparent_hugepage/enabled");
  }
  guest.punch_holes(plan.process);

  sim::MachineOptions options;
  options.device.dialect = mode;
  options.driver.kernel = &guest.kernel();
  auto machine =
      sim::Machine::start(*memory, guest.allocator(), make_kernel_discarder(), std::move(options));
  if (!machine) return tl::unexpected(machine.error());

  const auto inflated = (*machine)->resize(plan.inflate >> kPageShift);
  if (!inflated) return tl::unexpected(inflated.error());
  run.inflate_ms = to_ms(inflated->wall);
  run.allocations_by_order = inflated->driver.allocations_by_order;
  run.moved_pages = guest.kernel().compaction().moved_pages;
  run.huge_inflated = guest.huge_pages();
  if (!inflated->reached) run.failure = "the guest ran short of memory";

  const auto deflated = (*machine)->resize(0);
  if (!deflated) return tl::unexpected(deflated.error());
  run.deflate_ms = to_ms(deflated->wall);
  const std::uint64_t damaged = guest.kernel().damaged_pages();
  if (!guest.run_process(plan.process)) run.failure = "the guest did not get its memory back";
  run.huge_reused = guest.huge_pages();
  if (const auto all = damaged + guest.kernel().damaged_pages(); all != 0) {
    run.failure = fmt::format("{} pages of the guest lost what they held", all);
  }
  return run;
}

}  // namespace vballoon::tool
