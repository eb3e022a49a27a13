// SPDX-License-Identifier: MIT
#include "real_linux/agent_line.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace vballoon::testing {

AgentLine::AgentLine() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::runtime_error("no socket pair");
  }
  end_ = ends[0];
  far_end_ = ends[1];
}

AgentLine::~AgentLine() {
  ::close(end_);
  close_far_end();
}

void AgentLine::close_far_end() {
  if (far_end_ >= 0) ::close(far_end_);
  far_end_ = -1;
}

void AgentLine::send(const std::string& request) {
  const std::string line = request + "\n";
  if (::send(end_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error("the guest is gone before: " + request);
  }
}

AgentReply AgentLine::receive(std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (received_.find('\n') == std::string::npos) read_more(end);
  const std::size_t text = received_.find('\n') + 1;
  std::size_t after_status = 0;
  const int status = std::stoi(received_, &after_status);
  const std::size_t length = std::stoul(received_.substr(after_status, text));
  while (received_.size() < text + length) read_more(end);
  AgentReply reply{status, received_.substr(text, length)};
  received_.erase(0, text + length);
  return reply;
}

void AgentLine::read_more(std::chrono::steady_clock::time_point end) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
  pollfd readable{end_, POLLIN, 0};
  if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) != 1) {
    throw std::runtime_error("the guest does not answer");
  }
  std::array<char, 4096> piece{};
  const ssize_t got = ::read(end_, piece.data(), piece.size());
  if (got <= 0) throw std::runtime_error("the guest is gone");
  received_.append(piece.data(), static_cast<std::size_t>(got));
}

}  // namespace vballoon::testing
