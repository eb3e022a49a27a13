// SPDX-License-Identifier: MIT
// Messages of vhost-user on a stream socket, with the descriptors that come along.
#ifndef VBALLOON_SRC_TRANSPORT_VHOST_USER_CHANNEL_H_
#define VBALLOON_SRC_TRANSPORT_VHOST_USER_CHANNEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "transport/vhost_user_protocol.h"

namespace vballoon::vhost_user {

struct Message {
  Header header;
  std::array<std::byte, kMaxPayload> bytes;
  std::vector<UniqueFd> fds;  // in the order of the message

  [[nodiscard]] std::span<const std::byte> payload() const {
    return std::span(bytes).first(header.size);
  }
  // The payload from `offset` on as a T; requires that it is there.
  template <typename T>
  [[nodiscard]] T get(std::size_t offset = 0) const {
    T value;
    std::memcpy(&value, payload().subspan(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }
};

// Never blocks.
class Channel {
 public:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  enum class Received {
    kMessage,  // message() is whole
    kNothing,  // not yet
    kEnd,      // the other side has closed
    kBroken,   // and it makes no sense to read on: why()
  };
  [[nodiscard]] Received receive();
  // What was received last.
  [[nodiscard]] Message& message() { return message_; }
  [[nodiscard]] const std::string& why() const { return why_; }

  // False when the other side has gone, or does not take it at once.
  [[nodiscard]] bool reply(std::uint32_t request, std::span<const std::byte> payload);

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  // Reads into what is missing of `into`, of which `have_` bytes came; kMessage: all did.
  [[nodiscard]] Received fill(std::span<std::byte> into);
  [[nodiscard]] Received broken(std::string why);

  UniqueFd socket_;
  Message message_;
  std::array<std::byte, sizeof(Header)> header_{};
  bool in_payload_ = false;
  std::size_t have_ = 0;  // bytes of the header, or of the payload
  std::string why_;
};

}  // namespace vballoon::vhost_user

#endif  // VBALLOON_SRC_TRANSPORT_VHOST_USER_CHANNEL_H_
