// SPDX-License-Identifier: MIT
// The process to which a guest is migrated.
#ifndef VBALLOON_TOOLS_MIGRATE_DESTINATION_H_
#define VBALLOON_TOOLS_MIGRATE_DESTINATION_H_

#include <sys/types.h>

#include <memory>
#include <vector>

#include "vballoon/balloon_device.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon::tool {

class Destination {
 public:
  // Forks: call it while this process has one thread. The other process has memory of that layout
  // and restores a device with these options. Fails when the kernel refuses.
  [[nodiscard]] static Result<std::unique_ptr<Destination>> start(
      const std::vector<RegionLayout>& layout, const BalloonOptions& device);
  // Ends the process, whatever it is doing, and waits for that.
  ~Destination();
  Destination(const Destination&) = delete;
  Destination& operator=(const Destination&) = delete;

  // Where its stream (migrate_stream.h) goes in and its answer comes out.
  [[nodiscard]] int socket() const { return socket_; }
  [[nodiscard]] pid_t process() const { return process_; }
  // Its memory: a file that both processes have mapped. Only that process writes to it.
  [[nodiscard]] const GuestMemory& memory() const { return *memory_; }

 private:
  Destination(std::shared_ptr<const GuestMemory> memory, int socket, pid_t process)
      : memory_(std::move(memory)), socket_(socket), process_(process) {}

  const std::shared_ptr<const GuestMemory> memory_;
  const int socket_;
  const pid_t process_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_DESTINATION_H_
