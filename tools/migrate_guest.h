// SPDX-License-Identifier: MIT
// A guest that lives on a thread of its own while it is migrated.
#ifndef VBALLOON_TOOLS_MIGRATE_GUEST_H_
#define VBALLOON_TOOLS_MIGRATE_GUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "migrate_options.h"
#include "migrate_workload.h"
#include "progress.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/machine.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// Where the guest's memory lies and what its balloon is made like; both sides of a migration have
// the same.
[[nodiscard]] std::vector<RegionLayout> layout_of(const MigratePlan& plan);
[[nodiscard]] BalloonOptions device_options(const Help& help);

class MigratingGuest {
 public:
  // A guest that has touched all its memory and uses all but what the plan leaves free. Null when
  // `tick` said to stop.
  [[nodiscard]] static Result<std::unique_ptr<MigratingGuest>> boot(const MigrateOptions& options,
                                                                    const MigratePlan& plan,
                                                                    const BalloonOptions& device,
                                                                    const Tick& tick);
  ~MigratingGuest();  // stops it

  // Lets it live: the driver's steps between those of a workload that writes at the rate that was
  // asked for.
  void run();
  // Returns when neither the guest nor its device touches memory any more; the driver waits for
  // nothing then.
  void stop();

  [[nodiscard]] sim::Machine& machine() { return *machine_; }
  [[nodiscard]] const std::shared_ptr<const GuestMemory>& memory() const { return memory_; }

  // Of a guest that does not run:
  // Pages that a balloon can have without making the guest reclaim.
  [[nodiscard]] std::uint64_t spare_pages() const;
  [[nodiscard]] bool owns(Pfn pfn) const;  // neither free nor in the balloon
  // Pages of processes and files that do not hold what the guest's kernel put there.
  [[nodiscard]] std::uint64_t damaged_pages() const { return kernel_.damaged_pages(); }

 private:
  MigratingGuest(std::shared_ptr<const GuestMemory> memory, const MigrateOptions& options);
  [[nodiscard]] bool touch_all(std::uint64_t seed, const Tick& tick) const;
  [[nodiscard]] bool step_driver();
  void live();

  const std::shared_ptr<const GuestMemory> memory_;
  const std::uint64_t write_rate_;  // bytes a second
  sim::PageAllocator allocator_;
  sim::GuestKernel kernel_;
  std::unique_ptr<sim::Machine> machine_;
  GuestWorkload workload_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_GUEST_H_
