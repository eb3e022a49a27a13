// SPDX-License-Identifier: MIT
// The guest's agent: does what the test on the host asks for over a serial line.
//
//   read PATH     the text of a file
//   run COMMAND   what a shell command prints; its exit code is the status
//   hold MIB      starts a process that fills memory with a pattern and keeps checking it
//   held          what that process has found: "passes 12 wrong 0", or "gone"
//   let-go        ends it
//   eat MIB       a process fills that much memory, checks it and ends: "survived" or "killed"
//
// A request is a line. A reply is a line with a status (0 for success) and the length of the text
// that follows. It is the init process: the guest ends with it.
#include <fcntl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "real_linux/guest/holder.h"
#include "real_linux/guest/pattern.h"

namespace {

using vballoon::guest::Holder;

struct Reply {
  int status = 0;
  std::string text = {};
};

Reply read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return {1, "cannot read " + path};
  std::ostringstream text;
  text << file.rdbuf();
  return {0, text.str()};
}

Reply run_command(const std::string& command) {
  std::FILE* const output = ::popen((command + " 2>&1").c_str(), "r");
  if (output == nullptr) return {1, "cannot run a shell"};
  Reply reply;
  char piece[4096];
  while (const std::size_t got = std::fread(piece, 1, sizeof(piece), output)) {
    reply.text.append(piece, got);
  }
  const int status = ::pclose(output);
  reply.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return reply;
}

// Who is killed when memory runs out: from -1000, never, to 1000, first.
void set_oom_score(int score) { std::ofstream("/proc/self/oom_score_adj") << score; }

[[noreturn]] void eat_and_exit(std::size_t mib) {
  set_oom_score(1000);
  const vballoon::guest::Memory memory(mib * vballoon::guest::kMib);
  if (!memory.mapped()) ::_exit(1);
  vballoon::guest::fill(memory.words(), 1);
  ::_exit(vballoon::guest::count_wrong_pages(memory.words(), 1) == 0 ? 0 : 2);
}

Reply eat(std::size_t mib) {
  const pid_t pid = ::fork();
  if (pid == 0) eat_and_exit(mib);
  int status = 0;
  if (pid < 0 || ::waitpid(pid, &status, 0) != pid) return {1, "cannot make a process"};
  if (WIFSIGNALED(status)) return {0, "killed"};
  if (WEXITSTATUS(status) == 1) return {1, "cannot map memory"};
  return {0, WEXITSTATUS(status) == 0 ? "survived" : "found wrong pages"};
}

Reply answer(const std::string& request, Holder& holder) {
  const auto space = request.find(' ');
  const std::string verb = request.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : request.substr(space + 1);
  const auto mib = [&] { return static_cast<std::size_t>(std::atoi(rest.c_str())); };
  if (verb == "read") return read_file(rest);
  if (verb == "run") return run_command(rest);
  if (verb == "hold") return {holder.start(mib()) ? 0 : 1};
  if (verb == "held") return {0, holder.report()};
  if (verb == "let-go") {
    holder.stop();
    return {};
  }
  if (verb == "eat") return eat(mib());
  return {1, "no such request: " + verb};
}

std::FILE* open_line(const char* path) {
  const int fd = ::open(path, O_RDWR | O_NOCTTY);
  termios settings{};
  if (fd < 0 || ::tcgetattr(fd, &settings) != 0) return nullptr;
  ::cfmakeraw(&settings);
  if (::tcsetattr(fd, TCSANOW, &settings) != 0) return nullptr;
  return ::fdopen(fd, "r+");
}

void send(std::FILE* line, const Reply& reply) {
  std::fprintf(line, "%d %zu\n", reply.status, reply.text.size());
  std::fwrite(reply.text.data(), 1, reply.text.size(), line);
  std::fflush(line);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  set_oom_score(-1000);
  std::FILE* const line = open_line(argv[1]);
  if (line == nullptr) return 1;
  Holder holder;
  send(line, {0, "ready"});
  char request[4096];
  while (std::fgets(request, sizeof(request), line) != nullptr) {
    std::string text = request;
    if (text.ends_with('\n')) text.pop_back();
    send(line, answer(text, holder));
  }
  return 1;
}
