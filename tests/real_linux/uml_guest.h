// SPDX-License-Identifier: MIT
// A real Linux kernel as a process: user-mode-linux with the agent as its init process.
#ifndef VBALLOON_TESTS_REAL_LINUX_UML_GUEST_H_
#define VBALLOON_TESTS_REAL_LINUX_UML_GUEST_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "real_linux/agent_line.h"
#include "real_linux/process.h"
#include "real_linux/soon.h"
#include "vballoon/features.h"

namespace vballoon::testing {

inline constexpr std::uint64_t kMib = 1 << 20;

// Why user-mode-linux cannot run on this machine, or nothing.
[[nodiscard]] std::optional<std::string> why_no_guest_can_run();

class UmlGuest {
 public:
  static constexpr std::uint64_t kMemoryBytes = 256 * kMib;

  // Boots with the balloon behind that vhost-user socket, or without one. Throws when the agent
  // does not report.
  UmlGuest(const ScratchDirectory& directory, const std::string& balloon_socket,
           const std::vector<std::string>& kernel_arguments = {});

  // The agent's answers (guest/agent.cc); these throw when there is none or it says that it failed.
  std::string run(const std::string& command);
  void hold(std::size_t mib);
  void let_go() { ask("let-go"); }
  std::string eat(std::size_t mib) { return ask("eat " + std::to_string(mib)); }

  // What the process that holds memory has seen.
  struct Held {
    bool running = false;
    std::uint64_t passes = 0;
    std::uint64_t wrong_pages = 0;
  };
  Held held();

  // A line of /proc/meminfo ("MemFree"), and one of /proc/vmstat ("balloon_migrate").
  std::uint64_t meminfo_bytes(const std::string& name);
  std::uint64_t vmstat(const std::string& name);
  // If the driver took a feature.
  bool has_feature(Feature feature);
  // If there is a device that a driver could take.
  bool has_device();

  // Has the shell do what has no answer: "poweroff -f".
  void order(const std::string& command) { line_.send("run " + command); }
  // After a reboot.
  void wait_until_ready();

  // Memory of this host that the guest's memory takes.
  [[nodiscard]] std::uint64_t host_bytes() const;

  [[nodiscard]] Process& process() { return *process_; }

 private:
  std::string ask(const std::string& request);
  [[nodiscard]] std::string last_words() const;

  AgentLine line_;
  std::optional<Process> process_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_UML_GUEST_H_
