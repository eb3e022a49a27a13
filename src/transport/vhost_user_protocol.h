// SPDX-License-Identifier: MIT
// The numbers and payloads of vhost-user, in the byte order of this machine.
#ifndef VBALLOON_SRC_TRANSPORT_VHOST_USER_PROTOCOL_H_
#define VBALLOON_SRC_TRANSPORT_VHOST_USER_PROTOCOL_H_

#include <cstddef>
#include <cstdint>

namespace vballoon::vhost_user {

// From the front end to the back end.
enum class Request : std::uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSetBackendReqFd = 21,
  kGetConfig = 24,
  kSetConfig = 25,
  kResetDevice = 34,
  kVringKick = 35,
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
  kSetStatus = 39,
  kGetStatus = 40,
};

// From the back end to the front end.
enum class BackendRequest : std::uint32_t {
  kConfigChange = 2,
  kVringCall = 4,
};

struct Header {
  std::uint32_t request = 0;
  std::uint32_t flags = 0;
  std::uint32_t size = 0;  // of the payload
};
static_assert(sizeof(Header) == 12);

inline constexpr std::uint32_t kVersionMask = 0x3;
inline constexpr std::uint32_t kVersion = 0x1;
inline constexpr std::uint32_t kReplyFlag = 0x4;
inline constexpr std::uint32_t kNeedReplyFlag = 0x8;

// A virtio feature bit that stands for "protocol features can be negotiated".
inline constexpr unsigned kProtocolFeaturesBit = 30;

enum class ProtocolFeature : std::uint8_t {
  kMultiqueue = 0,
  kReplyAck = 3,
  kBackendReq = 5,
  kConfig = 9,
  kResetDevice = 13,
  kInbandNotifications = 14,
  kConfigureMemSlots = 15,
  kStatus = 16,
};
constexpr std::uint64_t bit_of(ProtocolFeature feature) {
  return std::uint64_t{1} << static_cast<unsigned>(feature);
}
inline constexpr std::uint64_t kProtocolFeatures =
    bit_of(ProtocolFeature::kMultiqueue) | bit_of(ProtocolFeature::kReplyAck) |
    bit_of(ProtocolFeature::kBackendReq) | bit_of(ProtocolFeature::kConfig) |
    bit_of(ProtocolFeature::kResetDevice) | bit_of(ProtocolFeature::kInbandNotifications) |
    bit_of(ProtocolFeature::kConfigureMemSlots) | bit_of(ProtocolFeature::kStatus);

// A number of a queue, and a value: VRING_NUM, _BASE, _ENABLE, _KICK and _CALL.
struct VringState {
  std::uint32_t index = 0;
  std::uint32_t value = 0;
};
static_assert(sizeof(VringState) == 8);

// Addresses are the front end's own ("user addresses").
struct VringAddr {
  std::uint32_t index = 0;
  std::uint32_t flags = 0;
  std::uint64_t descriptor_table = 0;
  std::uint64_t used_ring = 0;
  std::uint64_t available_ring = 0;
  std::uint64_t log = 0;
};
static_assert(sizeof(VringAddr) == 40);

// The payload of VRING_KICK, _CALL and _ERR messages that bring a descriptor.
inline constexpr std::uint64_t kVringIndexMask = 0xFF;
inline constexpr std::uint64_t kVringNoFd = 0x100;

struct MemoryTableHeader {
  std::uint32_t regions = 0;
  std::uint32_t padding = 0;
};
static_assert(sizeof(MemoryTableHeader) == 8);

struct RegionDescription {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t user_address = 0;
  std::uint64_t fd_offset = 0;
};
static_assert(sizeof(RegionDescription) == 32);

struct SingleRegion {
  std::uint64_t padding = 0;
  RegionDescription region;
};
static_assert(sizeof(SingleRegion) == 40);

struct ConfigHeader {
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
  std::uint32_t flags = 0;
};
static_assert(sizeof(ConfigHeader) == 12);

inline constexpr std::size_t kMaxTableRegions = 8;   // of SET_MEM_TABLE, as many as descriptors
inline constexpr std::size_t kMaxMemorySlots = 32;   // with ADD_MEM_REG
inline constexpr std::size_t kMaxConfigBytes = 256;  // of the configuration space
inline constexpr std::size_t kMaxPayload = 512;

}  // namespace vballoon::vhost_user

#endif  // VBALLOON_SRC_TRANSPORT_VHOST_USER_PROTOCOL_H_
