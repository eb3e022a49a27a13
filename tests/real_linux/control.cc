// SPDX-License-Identifier: MIT
#include "real_linux/control.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "real_linux/soon.h"

namespace vballoon::testing {
namespace {

int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) throw std::runtime_error("too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  ::close(fd);
  throw std::runtime_error("nobody listens at " + path);
}

}  // namespace

Control::Control(const std::string& path) : fd_(connect_to(path)) {
  if (!next_line().contains("QMP")) throw std::runtime_error("no greeting at " + path);
  execute("qmp_capabilities");
}

Control::~Control() { ::close(fd_); }

nlohmann::json Control::execute(const std::string& command, const nlohmann::json& arguments) {
  nlohmann::json request = {{"execute", command}};
  if (!arguments.is_null()) request["arguments"] = arguments;
  const std::string line = request.dump() + "\n";
  if (::send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error("the daemon is gone before " + command);
  }
  nlohmann::json reply = next_line();
  while (reply.contains("event")) reply = next_line();
  if (!reply.contains("return")) throw std::runtime_error(command + ": " + reply.dump());
  return reply["return"];
}

nlohmann::json Control::next_line() {
  while (received_.find('\n') == std::string::npos) {
    pollfd readable{fd_, POLLIN, 0};
    const auto limit = std::chrono::milliseconds(kSoon).count();
    if (::poll(&readable, 1, static_cast<int>(limit)) != 1) {
      throw std::runtime_error("the daemon does not answer");
    }
    std::array<char, 4096> piece{};
    const ssize_t got = ::read(fd_, piece.data(), piece.size());
    if (got <= 0) throw std::runtime_error("the daemon is gone");
    received_.append(piece.data(), static_cast<std::size_t>(got));
  }
  const std::size_t length = received_.find('\n') + 1;
  const nlohmann::json line = nlohmann::json::parse(received_.substr(0, length));
  received_.erase(0, length);
  return line;
}

}  // namespace vballoon::testing
