// SPDX-License-Identifier: MIT
// Messages of vhost-user as a front end sends them, well-formed or not. Numbers and layouts are
// those of the protocol's description, and not the library's own.
#ifndef VBALLOON_TESTS_TRANSPORT_VHOST_USER_SOCKET_H_
#define VBALLOON_TESTS_TRANSPORT_VHOST_USER_SOCKET_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace vballoon::testing {

namespace vhost {

inline constexpr std::uint32_t kGetFeatures = 1;
inline constexpr std::uint32_t kSetFeatures = 2;
inline constexpr std::uint32_t kSetOwner = 3;
inline constexpr std::uint32_t kResetOwner = 4;
inline constexpr std::uint32_t kSetMemTable = 5;
inline constexpr std::uint32_t kSetLogBase = 6;
inline constexpr std::uint32_t kSetVringNum = 8;
inline constexpr std::uint32_t kSetVringAddr = 9;
inline constexpr std::uint32_t kSetVringBase = 10;
inline constexpr std::uint32_t kGetVringBase = 11;
inline constexpr std::uint32_t kSetVringKick = 12;
inline constexpr std::uint32_t kSetVringCall = 13;
inline constexpr std::uint32_t kSetVringErr = 14;
inline constexpr std::uint32_t kGetProtocolFeatures = 15;
inline constexpr std::uint32_t kSetProtocolFeatures = 16;
inline constexpr std::uint32_t kGetQueueNum = 17;
inline constexpr std::uint32_t kSetVringEnable = 18;
inline constexpr std::uint32_t kSetBackendReqFd = 21;
inline constexpr std::uint32_t kGetConfig = 24;
inline constexpr std::uint32_t kSetConfig = 25;
inline constexpr std::uint32_t kResetDevice = 34;
inline constexpr std::uint32_t kVringKick = 35;
inline constexpr std::uint32_t kGetMaxMemSlots = 36;
inline constexpr std::uint32_t kAddMemReg = 37;
inline constexpr std::uint32_t kRemMemReg = 38;
inline constexpr std::uint32_t kSetStatus = 39;
inline constexpr std::uint32_t kGetStatus = 40;

// Of the back end, over its own channel.
inline constexpr std::uint32_t kConfigChange = 2;
inline constexpr std::uint32_t kVringCall = 4;

inline constexpr std::uint64_t kMultiqueue = 1ULL << 0;
inline constexpr std::uint64_t kReplyAck = 1ULL << 3;
inline constexpr std::uint64_t kBackendReq = 1ULL << 5;
inline constexpr std::uint64_t kConfig = 1ULL << 9;
inline constexpr std::uint64_t kResetDeviceFeature = 1ULL << 13;
inline constexpr std::uint64_t kInband = 1ULL << 14;
inline constexpr std::uint64_t kMemSlots = 1ULL << 15;
inline constexpr std::uint64_t kStatus = 1ULL << 16;
inline constexpr std::uint64_t kEveryProtocolFeature = kMultiqueue | kReplyAck | kBackendReq |
                                                       kConfig | kResetDeviceFeature | kInband |
                                                       kMemSlots | kStatus;
// Those of user-mode-linux.
inline constexpr std::uint64_t kPlainProtocolFeatures = kReplyAck | kBackendReq | kConfig;

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint32_t kNeedReply = 8;
inline constexpr std::uint64_t kNoFd = 0x100;
inline constexpr unsigned kProtocolFeaturesBit = 30;
// The base of a packed ring that was not used yet: place 0 and both wrap counters.
inline constexpr std::uint32_t kFreshPacked = 0x8000'8000;

using Bytes = std::vector<std::byte>;

// Values one behind the other, each in as many bytes as its type has.
template <typename... T>
[[nodiscard]] Bytes bytes_of(T... values) {
  Bytes all((sizeof(T) + ... + 0));
  std::size_t at = 0;
  ((std::memcpy(all.data() + at, &values, sizeof(T)), at += sizeof(T)), ...);
  return all;
}
[[nodiscard]] inline Bytes joined(const Bytes& first, const Bytes& second) {
  Bytes all(first.size() + second.size());
  std::ranges::copy(second, std::ranges::copy(first, all.begin()).out);
  return all;
}
[[nodiscard]] inline Bytes u64(std::uint64_t value) { return bytes_of(value); }
[[nodiscard]] inline Bytes state(std::uint32_t index, std::uint32_t value) {
  return bytes_of(index, value);
}

struct Message {
  std::uint32_t request = 0;
  std::uint32_t flags = 0;
  Bytes payload{};

  [[nodiscard]] std::uint64_t u64() const {
    std::uint64_t value = 0;
    if (payload.size() == sizeof(value)) std::memcpy(&value, payload.data(), sizeof(value));
    return value;
  }
  friend bool operator==(const Message&, const Message&) = default;
};

}  // namespace vhost

class VhostUserSocket {
 public:
  VhostUserSocket() = default;
  explicit VhostUserSocket(UniqueFd socket) : socket_(std::move(socket)) {}
  // Throws when nobody listens there.
  [[nodiscard]] static VhostUserSocket connect(const std::string& path);

  // False when the other side has gone, or takes no more now.
  bool send_raw(std::span<const std::byte> bytes, std::span<const int> fds = {});
  bool send(std::uint32_t request, const vhost::Bytes& payload = {},
            std::initializer_list<int> fds = {}, std::uint32_t flags = vhost::kVersion);
  bool send(std::uint32_t request, const vhost::Bytes& payload, std::span<const int> fds,
            std::uint32_t flags);

  // The next reply, if it comes within that time.
  [[nodiscard]] std::optional<vhost::Message> receive(int milliseconds = 0);
  // Whether the other side has closed and nothing is left to be read.
  [[nodiscard]] bool is_closed(int milliseconds = 0) const;

  [[nodiscard]] int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

 private:
  UniqueFd socket_;
};

// A message from a pipe or a socket that bytes of messages stand in; nullopt when there is none.
[[nodiscard]] std::optional<vhost::Message> read_message(int fd, int milliseconds = 0);

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_TRANSPORT_VHOST_USER_SOCKET_H_
