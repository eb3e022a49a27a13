// SPDX-License-Identifier: MIT
#include "unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace vballoon::tool {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::kInvalidArgument, fmt::format("'{}': a socket's path has 1 to {} bytes", path,
                                                    sizeof address.sun_path - 1));
  }
  std::ranges::copy(path, address.sun_path);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// The errno of the last call.
auto system_failure(std::string_view what, const std::string& path) {
  return fail(Errc::kNotSupported, fmt::format("{} {}", what, path), errno);
}

// Makes room at a path, unless a server listens or something else than a socket is there.
Result<void> remove_stale(const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) return {};
  if (!S_ISSOCK(found.st_mode)) {
    return fail(Errc::kInvalidArgument, fmt::format("'{}' is there and is no socket", path));
  }
  const auto live = connect_to(path);
  if (live || live.error().os_error != ECONNREFUSED) {
    return fail(Errc::kInvalidArgument, fmt::format("'{}': another server listens there", path));
  }
  ::unlink(path.c_str());
  return {};
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Result<FileDescriptor> connect_to(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return system_failure("no socket for", path);
  if (::connect(socket.get(), generic(*address), sizeof *address) != 0) {
    return system_failure("cannot connect to", path);
  }
  return socket;
}

Result<Listener> Listener::at(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  if (auto removed = remove_stale(path); !removed) return tl::unexpected(removed.error());
  Listener listener(
      FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  if (listener.fd() < 0) return system_failure("no socket for", path);
  // The file gets the mode of the socket: there is no moment at which others may connect.
  if (::fchmod(listener.fd(), S_IRUSR | S_IWUSR) != 0 ||
      ::bind(listener.fd(), generic(*address), sizeof *address) != 0) {
    return system_failure("cannot listen at", path);
  }
  struct stat made {};
  if (::stat(path.c_str(), &made) == 0) {
    listener.path_ = path;
    listener.device_ = made.st_dev;
    listener.inode_ = made.st_ino;
  }
  if (::listen(listener.fd(), SOMAXCONN) != 0) return system_failure("cannot listen at", path);
  return listener;
}

Listener::~Listener() {
  struct stat found {};
  if (path_.empty() || ::stat(path_.c_str(), &found) != 0) return;
  if (found.st_dev == device_ && found.st_ino == inode_) ::unlink(path_.c_str());
}

}  // namespace vballoon::tool
