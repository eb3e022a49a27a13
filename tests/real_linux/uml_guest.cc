// SPDX-License-Identifier: MIT
#include "real_linux/uml_guest.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace vballoon::testing {
namespace {

// The number behind a name at the start of a line: "MemFree:   123 kB", "oom_kill 0".
std::uint64_t number_of(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name) && line.find_first_of(": ") == name.size()) {
      return std::stoull(line.substr(name.size() + 1));
    }
  }
  throw std::runtime_error("the guest has no number named " + name);
}

void make_initramfs(const ScratchDirectory& directory, const std::string& path) {
  Process script({VBALLOON_MAKE_INITRAMFS, VBALLOON_GUEST_AGENT, path},
                 directory.path("make_initramfs.log"));
  if (script.wait_for_end(kSoon) != 0) {
    throw std::runtime_error("no initramfs: " + script.output());
  }
}

}  // namespace

std::optional<std::string> why_no_guest_can_run() {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return "this machine forbids ptrace, which user-mode-linux lives on";
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return std::nullopt;
}

UmlGuest::UmlGuest(const ScratchDirectory& directory, const std::string& balloon_socket,
                   const std::vector<std::string>& kernel_arguments) {
  const std::string initramfs = directory.path("initramfs");
  make_initramfs(directory, initramfs);
  std::vector<std::string> command = {
      "linux.uml", "mem=" + std::to_string(kMemoryBytes / kMib) + "M", "initrd=" + initramfs,
      // Kernel messages go to the output, the agent's line is not mixed with them.
      "con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:" + std::to_string(Process::kInheritedFd),
      "umid=guest", "uml_dir=" + directory.path("uml")};
  if (!balloon_socket.empty()) command.push_back("virtio_uml.device=" + balloon_socket + ":5");
  command.insert(command.end(), kernel_arguments.begin(), kernel_arguments.end());
  // The guest's memory is a file without a name in TMPDIR.
  process_.emplace(command, directory.path("console"), line_.far_end(),
                   std::vector<std::string>{"TMPDIR=" + directory.path("")});
  line_.close_far_end();
  wait_until_ready();
}

void UmlGuest::wait_until_ready() {
  try {
    if (line_.receive(kSoon).text != "ready") throw std::runtime_error("no greeting");
  } catch (const std::exception& error) {
    throw std::runtime_error(std::string("the guest does not boot: ") + error.what() +
                             last_words());
  }
}

std::string UmlGuest::ask(const std::string& request) {
  try {
    line_.send(request);
    AgentReply reply = line_.receive(kSoon);
    if (reply.status == 0) return std::move(reply.text);
    throw std::runtime_error("status " + std::to_string(reply.status) + ", " + reply.text);
  } catch (const std::exception& error) {
    throw std::runtime_error("guest, " + request + ": " + error.what() + last_words());
  }
}

std::string UmlGuest::last_words() const {
  return "\nlast lines of its console:\n" + process_->last_lines(30);
}

std::string UmlGuest::run(const std::string& command) { return ask("run " + command); }

void UmlGuest::hold(std::size_t mib) {
  ask("hold " + std::to_string(mib));
  expect_soon(
      "passes over the guest's pattern", [this] { return held().passes; }, ::testing::Gt(0U));
}

UmlGuest::Held UmlGuest::held() {
  const std::string report = ask("held");
  Held held;
  unsigned long long passes = 0;
  unsigned long long wrong = 0;
  held.running = std::sscanf(report.c_str(), "passes %llu wrong %llu", &passes, &wrong) == 2;
  held.passes = passes;
  held.wrong_pages = wrong;
  return held;
}

std::uint64_t UmlGuest::meminfo_bytes(const std::string& name) {
  return number_of(ask("read /proc/meminfo"), name) * 1024;
}

std::uint64_t UmlGuest::vmstat(const std::string& name) {
  return number_of(ask("read /proc/vmstat"), name);
}

bool UmlGuest::has_feature(Feature feature) {
  // A character for each bit.
  const std::string features = ask("read /sys/bus/virtio/devices/virtio0/features");
  return features.at(static_cast<std::size_t>(feature)) == '1';
}

bool UmlGuest::has_device() { return !run("ls /sys/bus/virtio/devices").empty(); }

std::uint64_t UmlGuest::host_bytes() const {
  // The largest file it has open that has no name any more.
  std::uint64_t bytes = 0;
  const std::string folder = "/proc/" + std::to_string(process_->pid()) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    struct stat status = {};
    if (::stat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_nlink == 0) {
      bytes = std::max(bytes, static_cast<std::uint64_t>(status.st_blocks) * 512);
    }
  }
  return bytes;
}

}  // namespace vballoon::testing
