// SPDX-License-Identifier: MIT
#include "transport/vhost_user_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>

namespace vballoon::testing {
namespace {

constexpr std::size_t kMostFds = 64;

bool is_readable(int fd, int milliseconds) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wait, 1, milliseconds) > 0;
}

// Requires that whoever began a message ends it.
bool read_all(int fd, std::span<std::byte> into) {
  std::size_t have = 0;
  while (have < into.size()) {
    const ssize_t got = read(fd, into.data() + have, into.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    have += static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace

VhostUserSocket VhostUserSocket::connect(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw std::runtime_error("nobody listens at " + path);
  }
  return VhostUserSocket(std::move(socket));
}

bool VhostUserSocket::send_raw(std::span<const std::byte> bytes, std::span<const int> fds) {
  if (fds.size() > kMostFds) throw std::length_error("descriptors");
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> control{};
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
  }
  const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent >= 0 && static_cast<std::size_t>(sent) == bytes.size();
}

bool VhostUserSocket::send(std::uint32_t request, const vhost::Bytes& payload,
                           std::span<const int> fds, std::uint32_t flags) {
  vhost::Bytes bytes = vhost::bytes_of(request, flags, static_cast<std::uint32_t>(payload.size()));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return send_raw(bytes, fds);
}

bool VhostUserSocket::send(std::uint32_t request, const vhost::Bytes& payload,
                           std::initializer_list<int> fds, std::uint32_t flags) {
  return send(request, payload, std::span(fds.begin(), fds.size()), flags);
}

std::optional<vhost::Message> VhostUserSocket::receive(int milliseconds) {
  return read_message(socket_.get(), milliseconds);
}

bool VhostUserSocket::is_closed(int milliseconds) const {
  if (!is_readable(socket_.get(), milliseconds)) return false;
  std::byte next{};
  return recv(socket_.get(), &next, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

std::optional<vhost::Message> read_message(int fd, int milliseconds) {
  if (!is_readable(fd, milliseconds)) return std::nullopt;
  std::array<std::uint32_t, 3> header{};
  if (!read_all(fd, std::as_writable_bytes(std::span(header)))) return std::nullopt;
  vhost::Message message{.request = header[0], .flags = header[1]};
  message.payload.resize(header[2]);
  if (!read_all(fd, message.payload)) return std::nullopt;
  return message;
}

}  // namespace vballoon::testing
