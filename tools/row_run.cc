// SPDX-License-Identifier: MIT
#include "row_run.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "aged_pages.h"
#include "guest_set_up.h"
#include "oracle.h"
#include "vballoon/sim/busy_vcpu.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {
namespace {

// How long the busy virtual processor runs alone before its speed counts as undisturbed.
constexpr auto kBusyWarmUp = std::chrono::milliseconds(100);
constexpr auto kBusyAlone = std::chrono::milliseconds(300);

// How far a run is, for the progress bar, when a step of it ends.
constexpr double kTouched = 0.35;
constexpr double kInflated = 0.55;
constexpr double kChecked = 0.6;
constexpr double kDeflated = 0.65;

sim::MachineOptions machine_options(const CompareOptions& options, const RowSpec& spec) {
  sim::MachineOptions machine;
  machine.device.dialect = spec.mode;
  machine.device.log = options.log;
  machine.driver = driver_options(options);
  machine.notify = options.notify;
  machine.device.write_behind = spec.write_behind;
  // The baseline is what most devices do.
  const bool baseline = spec.mode == Dialect::kStandard && spec.host == DiscardStrategy::kPerPage;
  if (!baseline) machine.watch = std::chrono::microseconds(options.poll_us);
  if (spec.host == DiscardStrategy::kPerPage) machine.device.huge_pages = HugePagePolicy::kSplit;
  return machine;
}

std::vector<std::span<std::byte>> host_memory_of(const GuestMemory& memory,
                                                 const std::vector<sim::Block>& blocks) {
  std::vector<std::span<std::byte>> spans;
  for (const sim::Block& block : blocks) {
    const std::uint64_t bytes = block.pages().bytes();
    spans.emplace_back(memory.host(block.first << kPageShift, bytes), bytes);
  }
  return spans;
}

std::string refused_in(const BalloonMetrics& metrics) {
  if (metrics.discard_failures == 0) return {};
  return fmt::format("{} pieces: {}", metrics.discard_failures,
                     std::generic_category().message(metrics.last_discard_errno));
}

// A virtual processor that works before and during an inflation, and what it loses by it.
class BusyGuest {
 public:
  explicit BusyGuest(std::vector<std::span<std::byte>> memory) : vcpu_(std::move(memory)) {
    std::this_thread::sleep_for(kBusyWarmUp);
    const auto begin = vcpu_.mark();
    std::this_thread::sleep_for(kBusyAlone);
    start_ = vcpu_.mark();
    alone_ = sim::BusyVcpu::pieces_per_second(begin, start_);
  }
  [[nodiscard]] double loss_percent() const {
    const double during = sim::BusyVcpu::pieces_per_second(start_, vcpu_.mark());
    return 100 * (1 - during / alone_);
  }

 private:
  sim::BusyVcpu vcpu_;
  sim::BusyVcpu::Mark start_;
  double alone_ = 0;
};

// A guest that has booted and aged, and who watches its memory. The members go in reverse order.
struct Guest {
  std::shared_ptr<const GuestMemory> memory;
  GuestPages pages;
  std::unique_ptr<AgedPages> aged;
  Oracle oracle;
  std::unique_ptr<sim::Machine> machine;
};

// nullopt when `tick` said to stop.
Result<std::optional<Guest>> boot(const CompareOptions& options, const ComparePlan& plan,
                                  const RowSpec& spec, const Tick& tick) {
  auto memory = GuestMemory::allocate(pc_layout(plan.guest_memory), {options.backing, options.thp});
  if (!memory) return tl::unexpected(memory.error());
  auto pages = make_guest_pages(options, plan.guest_memory);
  if (!pages) return tl::unexpected(pages.error());
  sim::PageAllocator& allocator = *pages->allocator;

  Oracle oracle(*memory, options.seed);
  if (!oracle.mark_all(tick)) return std::nullopt;
  const PageSet free_before = free_pages_of(allocator);
  auto aged = std::make_unique<AgedPages>(*memory, allocator);
  sim::MachineOptions parts = machine_options(options, spec);
  if (options.compaction) parts.driver.compactor = &aged->compactor();
  auto machine =
      sim::Machine::start(*memory, allocator, options.make_discarder(spec.host, *memory), parts);
  if (!machine) return tl::unexpected(machine.error());
  oracle.except_driver_pages(free_before, allocator);
  aged->own(age(options, allocator));
  if (auto ready = oracle.before_inflate(); !ready) return tl::unexpected(ready.error());
  return Guest{std::move(*memory), std::move(*pages), std::move(aged), std::move(oracle),
               std::move(*machine)};
}

}  // namespace

Result<std::optional<RowRun>> run_row(const CompareOptions& options, const ComparePlan& plan,
                                      const RowSpec& spec, const Tick& tick) {
  auto guest = boot(options, plan, spec, part_of(tick, 0, kTouched));
  if (!guest) return tl::unexpected(guest.error());
  if (!guest->has_value()) return std::nullopt;
  auto& [memory, guest_pages, aged, oracle, machine] = **guest;

  RowRun run;
  run.free_blocks_by_order = guest_pages.allocator->free_blocks_by_order();
  std::unique_ptr<BusyGuest> busy;
  if (options.busy_vcpu) {
    busy = std::make_unique<BusyGuest>(host_memory_of(*memory, guest_pages.busy_blocks));
  }

  const auto share = [&driver = machine->driver(), all = plan.inflate_pages] {
    return static_cast<double>(driver.ballooned_pages()) / static_cast<double>(all);
  };
  const Tick inflating = part_of(tick, kTouched, kInflated);
  const auto inflated = machine->resize(plan.inflate_pages, [&] { return inflating(share()); });
  if (!inflated) return tl::unexpected(inflated.error());
  if (busy) run.vcpu_loss_percent = busy->loss_percent();
  busy.reset();
  if (!tick(kInflated)) return std::nullopt;
  run.pages = inflated->pages;
  run.allocations_by_order = inflated->driver.allocations_by_order;
  run.inflate = inflation_of(*inflated);
  run.inflate.moved_pages = static_cast<double>(aged->moves().size());
  oracle.pages_moved(aged->moves());
  run.refused = refused_in(inflated->device);
  run.failure =
      inflated->reached
          ? oracle.after_inflate(machine->driver(), *inflated, part_of(tick, kInflated, kChecked))
          : fmt::format("the guest gave {} pages of {}", inflated->pages, plan.inflate_pages);

  const Tick deflating = part_of(tick, kChecked, kDeflated);
  const auto deflated = machine->resize(0, [&] { return deflating(1 - share()); });
  if (!deflated) return tl::unexpected(deflated.error());
  run.deflate = deflation_of(*deflated);
  if (run.failure.empty()) {
    run.failure = oracle.after_deflate(*machine, part_of(tick, kDeflated, 1));
  }
  if (!tick(1)) return std::nullopt;
  run.verified = run.failure.empty();
  return run;
}

}  // namespace vballoon::tool
