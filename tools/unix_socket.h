// SPDX-License-Identifier: MIT
// Unix stream sockets at a path.
#ifndef VBALLOON_TOOLS_UNIX_SOCKET_H_
#define VBALLOON_TOOLS_UNIX_SOCKET_H_

#include <sys/types.h>

#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "vballoon/result.h"

namespace vballoon::tool {

// Connects without waiting: a server that has no room is like none. Fails with the errno.
[[nodiscard]] Result<UniqueFd> connect_to(const std::string& path);

// A socket that listens, and, if it was made for a path, its place in the file system, which is
// removed in the end.
class Listener {
 public:
  // As listen_on_unix_socket() (vballoon/transport/vhost_user.h).
  [[nodiscard]] static Result<Listener> at(const std::string& path);
  // One that somebody else made, and removes.
  explicit Listener(UniqueFd socket) : socket_(std::move(socket)) {}
  ~Listener();
  Listener(Listener&& other) noexcept
      : socket_(std::move(other.socket_)),
        path_(std::exchange(other.path_, {})),
        device_(other.device_),
        inode_(other.inode_) {}
  Listener& operator=(Listener&&) = delete;

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
  std::string path_;  // empty: not ours to remove
  dev_t device_ = 0;  // of the file there, so that no other is removed
  ino_t inode_ = 0;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_UNIX_SOCKET_H_
