// SPDX-License-Identifier: MIT
// Unix stream sockets that only their owner may reach.
#ifndef VBALLOON_TOOLS_UNIX_SOCKET_H_
#define VBALLOON_TOOLS_UNIX_SOCKET_H_

#include <sys/types.h>

#include <string>
#include <utility>

#include "vballoon/result.h"

namespace vballoon::tool {

// A file descriptor that is closed in the end.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// Connects without waiting: a server that has no room is like none. Fails with the errno.
[[nodiscard]] Result<FileDescriptor> connect_to(const std::string& path);

// A socket that listens, and, if it was made for a path, its place in the file system, which is
// removed in the end.
class Listener {
 public:
  // Mode 0600. What a server left behind that has gone is replaced; fails when one is there, when
  // the path is no socket's, and when the system refuses.
  [[nodiscard]] static Result<Listener> at(const std::string& path);
  // One that somebody else made, and removes.
  explicit Listener(FileDescriptor socket) : socket_(std::move(socket)) {}
  ~Listener();
  Listener(Listener&& other) noexcept = default;
  Listener& operator=(Listener&&) = delete;

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  FileDescriptor socket_;
  std::string path_;  // empty: not ours to remove, or moved away
  dev_t device_ = 0;  // of the file there, so that no other is removed
  ino_t inode_ = 0;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_UNIX_SOCKET_H_
