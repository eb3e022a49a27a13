// SPDX-License-Identifier: MIT
// `vballoon serve`, and what its control socket says about the device.
#ifndef VBALLOON_TESTS_REAL_LINUX_DAEMON_H_
#define VBALLOON_TESTS_REAL_LINUX_DAEMON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "real_linux/control.h"
#include "real_linux/process.h"

namespace vballoon::testing {

class Daemon {
 public:
  // Returns when the daemon listens; throws when it does not.
  Daemon(const ScratchDirectory& directory, const std::vector<std::string>& options);
  // Asks it to end, unless it has, and expects that it did so in order or was killed.
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] Process& process() { return *process_; }
  [[nodiscard]] Control& control() { return *control_; }

  void set_target(std::uint64_t bytes);
  [[nodiscard]] std::uint64_t actual_bytes();
  [[nodiscard]] std::uint64_t guest_memory_bytes();
  [[nodiscard]] bool has_guest();
  // The last statistics, by their names of the control socket ("free-memory-bytes").
  [[nodiscard]] nlohmann::json stats();
  // For Prometheus.
  [[nodiscard]] std::string metrics();
  // A counter by its name in the metrics, without labels; all of those with labels summed.
  [[nodiscard]] std::uint64_t metric(const std::string& name);

  // Runs `vballoon ctl` against it and expects that it succeeds; what it printed.
  std::string ctl(const std::vector<std::string>& words);

 private:
  const ScratchDirectory& directory_;
  std::string socket_;
  std::string control_socket_;
  std::optional<Process> process_;
  std::optional<Control> control_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_DAEMON_H_
