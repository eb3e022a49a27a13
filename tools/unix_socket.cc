// SPDX-License-Identifier: MIT
#include "unix_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vballoon/transport/vhost_user.h"

namespace vballoon::tool {

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::kInvalidArgument, fmt::format("'{}': the path of a socket has 1 to {} bytes",
                                                    path, sizeof address.sun_path - 1));
  }
  std::ranges::copy(path, address.sun_path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    return fail(Errc::kNotSupported, fmt::format("cannot connect to {}", path), error);
  }
  return socket;
}

Result<Listener> Listener::at(const std::string& path) {
  const auto socket = listen_on_unix_socket(path);
  if (!socket) return tl::unexpected(socket.error());
  Listener listener{UniqueFd(*socket)};
  struct stat made {};
  if (::stat(path.c_str(), &made) == 0) {
    listener.path_ = path;
    listener.device_ = made.st_dev;
    listener.inode_ = made.st_ino;
  }
  return listener;
}

Listener::~Listener() {
  struct stat found {};
  if (path_.empty() || ::stat(path_.c_str(), &found) != 0) return;
  if (found.st_dev == device_ && found.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace vballoon::tool
