// SPDX-License-Identifier: MIT
// A folder for sockets, which is removed in the end.
#ifndef VBALLOON_TESTS_TOOLS_SOCKET_FOLDER_H_
#define VBALLOON_TESTS_TOOLS_SOCKET_FOLDER_H_

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace vballoon::tool::testing {

class SocketFolder {
 public:
  SocketFolder() {
    std::string name = std::filesystem::temp_directory_path() / "vballoon-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~SocketFolder() { std::filesystem::remove_all(folder_); }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }

  // What a server leaves that was killed.
  static void leave_dead_socket(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::ranges::copy(path, address.sun_path);
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("bind");
    }
    ::close(socket);
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_SOCKET_FOLDER_H_
