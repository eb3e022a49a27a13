// SPDX-License-Identifier: MIT
#include "thp_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "huge_pages.h"
#include "machine_facts.h"
#include "vballoon/guest_memory.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {
namespace {

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
  [[nodiscard]] MappedMemory mapped() const { return mapped_memory_of(memory_->regions().front()); }

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
    used_ = pages_of(bytes);
    return kernel_.touch(process_, 0, used_);
  }
  // Lets that process have all that is free.
  [[nodiscard]] bool use_what_is_free() {
    const std::uint64_t free = allocator_.free_pages() - kernel_.watermarks().min;
    return kernel_.touch(process_, used_, static_cast<std::uint32_t>(free));
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
  std::uint32_t used_ = 0;  // pages of it
};

// Those whose pages are all in the balloon, by number.
std::vector<std::uint64_t> complete_huge_pages(const BalloonDevice& device,
                                               const MemoryRegion& region) {
  constexpr std::uint64_t kPages = kHugePageBytes >> kPageShift;
  std::vector<std::uint64_t> complete;
  for (std::uint64_t huge = 0; huge < region.bytes / kHugePageBytes; ++huge) {
    std::uint64_t in = 0;
    while (in < kPages && device.is_ballooned(region.pages().first + huge * kPages + in)) ++in;
    if (in == kPages) complete.push_back(huge);
  }
  return complete;
}

std::uint64_t count_used(const std::vector<std::uint64_t>& numbers, const MemoryRegion& region) {
  return static_cast<std::uint64_t>(std::ranges::count_if(numbers, [&region](std::uint64_t huge) {
    return any_resident(region.host + huge * kHugePageBytes, kHugePageBytes);
  }));
}

std::optional<std::uint64_t> count_huge(const std::vector<std::uint64_t>& numbers,
                                        const MemoryRegion& region) {
  const auto map = huge_page_map_of(region);
  if (!map) return std::nullopt;
  return std::ranges::count_if(numbers, [&map](std::uint64_t huge) { return (*map)[huge]; });
}

}  // namespace

Result<ThpRun> run_thp(Dialect mode, const ThpPolicy& policy, bool compaction,
                       const ThpPlan& plan) {
  auto memory = GuestMemory::allocate(std::array{RegionLayout{0, plan.guest_memory}},
                                      {Backing::kAnonymous, ThpMode::kOn});
  if (!memory) return tl::unexpected(memory.error());
  ThpGuest guest(*memory, compaction);
  if (!guest.boot(plan.kernel) || !guest.run_process(plan.process)) {
    return fail(Errc::kInvalidArgument, "the guest has not that much memory");
  }
  ThpRun run;
  run.huge_before = guest.mapped().huge_pages;
  if (run.huge_before == 0) {
    return fail(Errc::kNotSupported,
                "the kernel gives no transparent huge pages; write madvise or always into "
                "/sys/kernel/mm/transparent_hugepage/enabled");
  }
  guest.punch_holes(plan.process);
  run.resident_before = guest.mapped().resident_bytes;

  sim::MachineOptions options;
  options.device.dialect = mode;
  options.device.huge_pages = policy.inflate;
  options.device.deflate_action = policy.deflate;
  options.driver.kernel = &guest.kernel();
  auto machine =
      sim::Machine::start(*memory, guest.allocator(), make_kernel_discarder(), std::move(options));
  if (!machine) return tl::unexpected(machine.error());

  const auto inflated = (*machine)->resize(plan.inflate >> kPageShift);
  if (!inflated) return tl::unexpected(inflated.error());
  run.inflate_ms = to_ms(inflated->wall);
  run.allocations_by_order = inflated->driver.allocations_by_order;
  run.moved_pages = guest.kernel().compaction().moved_pages;
  run.huge_inflated = guest.mapped().huge_pages;
  run.resident_inflated = guest.mapped().resident_bytes;
  run.owed_bytes = inflated->device.owed_bytes;
  const MemoryRegion& region = (*memory)->regions().front();
  const auto complete = complete_huge_pages((*machine)->device(), region);
  run.huge_complete = complete.size();
  if (!inflated->reached) run.failure = "the guest ran short of memory";

  const auto deflated = (*machine)->resize(0);
  if (!deflated) return tl::unexpected(deflated.error());
  run.deflate_ms = to_ms(deflated->wall);
  run.resident_deflated = guest.mapped().resident_bytes;
  run.collapsed_bytes = (*machine)->device().metrics().collapsed_bytes;
  const std::uint64_t damaged = guest.kernel().damaged_pages();
  if (!guest.run_process(plan.process)) run.failure = "the guest did not get its memory back";
  run.huge_reused = guest.mapped().huge_pages;
  if (!guest.use_what_is_free()) run.failure = "the guest did not get its memory back";
  run.complete_reused = count_used(complete, region);
  run.complete_huge = count_huge(complete, region);
  if (const auto all = damaged + guest.kernel().damaged_pages(); all != 0) {
    run.failure = fmt::format("{} pages of the guest lost what they held", all);
  }
  return run;
}

}  // namespace vballoon::tool
