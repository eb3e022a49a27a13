// SPDX-License-Identifier: MIT
#include "transport/vhost_user_channel.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <utility>

namespace vballoon::vhost_user {
namespace {

// As many as any message brings.
constexpr std::size_t kMaxFds = kMaxTableRegions;

// Takes over all descriptors that came, so that none is lost whatever becomes of the message.
void take_fds(const msghdr& received, std::vector<UniqueFd>& fds) {
  for (const cmsghdr* part = CMSG_FIRSTHDR(&received); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&received), const_cast<cmsghdr*>(part))) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Channel::Received Channel::broken(std::string why) {
  why_ = std::move(why);
  return Received::kBroken;
}

Channel::Received Channel::fill(std::span<std::byte> into) {
  while (have_ < into.size()) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control;
    iovec piece{into.data() + have_, into.size() - have_};
    msghdr received{};
    received.msg_iov = &piece;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    const ssize_t got = recvmsg(socket_.get(), &received, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::kNothing;
    if (got < 0) return Received::kEnd;
    take_fds(received, message_.fds);
    if (got == 0) {
      return have_ == 0 && !in_payload_ ? Received::kEnd : broken("it ends inside a message");
    }
    if ((received.msg_flags & MSG_CTRUNC) != 0 || message_.fds.size() > kMaxFds) {
      return broken(fmt::format("a message brings more than {} descriptors", kMaxFds));
    }
    have_ += static_cast<std::size_t>(got);
  }
  have_ = 0;
  return Received::kMessage;
}

Channel::Received Channel::receive() {
  if (!in_payload_) {
    if (have_ == 0) message_.fds.clear();
    if (const Received got = fill(header_); got != Received::kMessage) return got;
    std::memcpy(&message_.header, header_.data(), sizeof(Header));
    const Header& header = message_.header;
    if ((header.flags & kVersionMask) != kVersion || (header.flags & kReplyFlag) != 0) {
      return broken(fmt::format("message {} has flags {:#x}", header.request, header.flags));
    }
    if (header.size > kMaxPayload) {
      return broken(
          fmt::format("message {} has a payload of {} bytes", header.request, header.size));
    }
    in_payload_ = true;
  }
  const auto payload = std::span(message_.bytes).first(message_.header.size);
  const Received got = fill(payload);
  if (got == Received::kMessage) in_payload_ = false;
  return got;
}

bool Channel::reply(std::uint32_t request, std::span<const std::byte> payload) {
  const Header header{request, kVersion | kReplyFlag, static_cast<std::uint32_t>(payload.size())};
  std::array<std::byte, sizeof(Header) + kMaxPayload> bytes;
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!payload.empty()) {
    std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
  }
  const std::size_t size = sizeof(header) + payload.size();
  ssize_t sent = -1;
  do {
    sent = send(socket_.get(), bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0 && static_cast<std::size_t>(sent) == size;
}

}  // namespace vballoon::vhost_user
