// SPDX-License-Identifier: MIT
#include "real_linux/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "real_linux/soon.h"

namespace vballoon::testing {
namespace {

std::vector<char*> pointers_to(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A program can leave processes behind that nobody knows, as user-mode-linux does. This child of
// its is told of its death by the kernel and takes the group along. Nothing is allocated here, nor
// in run_program(): the test program may have threads.
void make_group_killer() {
  const pid_t program = ::getpid();
  if (::fork() != 0) return;
  ::close_range(0, ~0U, 0);
  ::signal(SIGTERM, [](int) { ::kill(0, SIGKILL); });
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != program) ::kill(0, SIGKILL);
  for (;;) ::pause();
}

[[noreturn]] void run_program(char* const* arguments, char* const* environment, int output,
                              int inherited, pid_t test) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != test) ::_exit(1);
  make_group_killer();
  // Above what is replaced, so that nothing is replaced before it is used.
  const int kept_output = ::fcntl(output, F_DUPFD, 10);
  const int kept = inherited < 0 ? -1 : ::fcntl(inherited, F_DUPFD, 10);
  ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
  ::dup2(kept_output, STDOUT_FILENO);
  ::dup2(kept_output, STDERR_FILENO);
  unsigned first_to_close = Process::kInheritedFd;
  if (kept >= 0) ::dup2(kept, static_cast<int>(first_to_close++));
  ::close_range(first_to_close, ~0U, 0);
  ::execvpe(arguments[0], arguments, environment);
  ::_exit(127);
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::string name = "/dev/shm/vballoon-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), "no directory in /dev/shm");
  }
  directory_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Process::Process(const std::vector<std::string>& command, std::string output_path, int inherited_fd,
                 const std::vector<std::string>& environment)
    : output_path_(std::move(output_path)) {
  std::vector<std::string> variables = environment;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  const std::vector<char*> arguments = pointers_to(command);
  const std::vector<char*> all_variables = pointers_to(variables);
  const int output =
      ::open(output_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  const pid_t test = ::getpid();
  pid_ = output < 0 ? -1 : ::fork();
  if (pid_ == 0) {
    run_program(arguments.data(), all_variables.data(), output, inherited_fd, test);
  }
  const int error = errno;
  if (output >= 0) ::close(output);
  if (pid_ < 0) throw std::system_error(error, std::generic_category(), "start " + command[0]);
  ::setpgid(pid_, pid_);  // whoever comes first
}

Process::~Process() { kill(); }

void Process::signal(int number) const {
  if (!ended_) ::kill(pid_, number);
}

void Process::kill() {
  if (ended_) return;
  ::kill(-pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  ended_ = -SIGKILL;
}

std::optional<int> Process::wait_for_end(std::chrono::milliseconds limit) {
  soon(
      [this] {
        int status = 0;
        if (!ended_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
          ended_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        return ended_.has_value();
      },
      limit);
  return ended_;
}

std::chrono::milliseconds Process::processor_time() const {
  // The 14th and 15th field, in ticks; the second, the name in parentheses, may have blanks.
  std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
  file.ignore(std::numeric_limits<std::streamsize>::max(), ')');
  std::string field;
  for (int skipped = 0; skipped < 11; ++skipped) file >> field;
  long long user = 0;
  long long system = 0;
  file >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

std::string Process::output() const {
  std::ifstream file(output_path_);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Process::last_lines(std::size_t count) const {
  const std::string text = output();
  std::size_t from = text.size();
  for (std::size_t line = 0; line <= count && from != std::string::npos && from != 0; ++line) {
    from = text.rfind('\n', from - 1);
  }
  return from == std::string::npos ? text : text.substr(from);
}

}  // namespace vballoon::testing
