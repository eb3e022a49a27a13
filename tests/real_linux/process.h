// SPDX-License-Identifier: MIT
// A program that a test starts, and that does not outlive it.
#ifndef VBALLOON_TESTS_REAL_LINUX_PROCESS_H_
#define VBALLOON_TESTS_REAL_LINUX_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace vballoon::testing {

// A directory of a test's own in memory; it goes with the object.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ / name; }

 private:
  std::filesystem::path directory_;
};

class Process {
 public:
  // What the program gets as file descriptor 3, where there is something.
  static constexpr int kInheritedFd = 3;

  // Runs the program in a process group of its own, with its output in a file. The whole group is
  // killed when the program ends, with this object, and when the test program ends, however that
  // comes about. Throws when it cannot be started.
  Process(const std::vector<std::string>& command, std::string output_path, int inherited_fd = -1,
          const std::vector<std::string>& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  void kill();  // all of the group
  // The exit code, or minus the signal that ended it; nothing when it still runs after that time.
  [[nodiscard]] std::optional<int> wait_for_end(std::chrono::milliseconds limit);
  [[nodiscard]] bool running() { return !wait_for_end({}); }

  // What it has used, without its children.
  [[nodiscard]] std::chrono::milliseconds processor_time() const;

  // What it printed.
  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::string last_lines(std::size_t count) const;

 private:
  pid_t pid_ = -1;
  std::string output_path_;
  std::optional<int> ended_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_PROCESS_H_
