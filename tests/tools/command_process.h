// SPDX-License-Identifier: MIT
// Runs the real command as a process of its own.
#ifndef VBALLOON_TESTS_TOOLS_COMMAND_PROCESS_H_
#define VBALLOON_TESTS_TOOLS_COMMAND_PROCESS_H_

#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace vballoon::tool::testing {

// A file without a name, for what a process prints.
class Capture {
 public:
  Capture() : file_(std::tmpfile()) {}
  ~Capture() { std::fclose(file_); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  [[nodiscard]] std::FILE* file() const { return file_; }
  [[nodiscard]] int fd() const { return ::fileno(file_); }
  [[nodiscard]] std::string text() const {
    std::string text;
    std::array<char, 4096> piece{};
    std::rewind(file_);
    while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), file_)) {
      text.append(piece.data(), got);
    }
    return text;
  }

 private:
  std::FILE* file_;
};

class CommandProcess {
 public:
  // Prints into `stdout_fd` and `stderr_fd`; `environment` holds "NAME=value".
  CommandProcess(std::vector<std::string> arguments, int stdout_fd, int stderr_fd,
                 std::vector<std::string> environment = {"PATH=/usr/bin:/bin", "TERM=xterm"}) {
    arguments.insert(arguments.begin(), VBALLOON_COMMAND);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
    if (::posix_spawn(&pid_, VBALLOON_COMMAND, &actions, nullptr, pointers_to(arguments).data(),
                      pointers_to(environment).data()) != 0) {
      pid_ = -1;
    }
    posix_spawn_file_actions_destroy(&actions);
  }

  // The exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    if (::waitpid(pid_, &status, 0) != pid_) return -1000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // Sends SIGINT as soon as the process catches it.
  void interrupt() const {
    while (!catches_interrupts()) ::sched_yield();
    ::kill(pid_, SIGINT);
  }

 private:
  static std::vector<char*> pointers_to(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
  }

  // True also when it has ended: then nothing is to be waited for.
  [[nodiscard]] bool catches_interrupts() const {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigCgt:")) continue;
      return (std::stoull(line.substr(8), nullptr, 16) >> (SIGINT - 1) & 1) != 0;
    }
    return true;
  }

  pid_t pid_ = -1;
};

struct Finished {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline Finished run_command(std::vector<std::string> arguments) {
  const Capture out;
  const Capture err;
  CommandProcess process(std::move(arguments), out.fd(), err.fd());
  const int exit_code = process.wait();
  return {exit_code, out.text(), err.text()};
}

// With stderr on a terminal; what appears there is in `err`.
inline Finished run_on_terminal(std::vector<std::string> arguments,
                                std::vector<std::string> environment) {
  int terminal = -1;
  int inside = -1;
  if (::openpty(&terminal, &inside, nullptr, nullptr, nullptr) != 0) return {};
  const Capture out;
  CommandProcess process(std::move(arguments), out.fd(), inside, std::move(environment));
  ::close(inside);
  Finished finished;
  std::array<char, 4096> piece{};
  // Ends with EIO when the last one that has the other side closes it.
  for (ssize_t got = 0; (got = ::read(terminal, piece.data(), piece.size())) > 0;) {
    finished.err.append(piece.data(), static_cast<std::size_t>(got));
  }
  ::close(terminal);
  finished.exit_code = process.wait();
  finished.out = out.text();
  return finished;
}

MATCHER_P(RefusesWith, text, "exits with 2, says why on stderr and nothing on stdout") {
  *result_listener << "exit code " << arg.exit_code << ", stderr: " << arg.err;
  return arg.exit_code == 2 && arg.out.empty() && arg.err.find(text) != std::string::npos;
}

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_COMMAND_PROCESS_H_
