// SPDX-License-Identifier: MIT
// Requests of the host to the guest (never merged into Linux).
//
// Request queue of the page bitmap: the driver keeps a device-writable buffer of 16 bytes posted,
// which the device uses to ask: u16 command, 6 bytes reserved, u64 param. The answers are
// messages with the header of the page bitmap, which says what they answer, and its records:
// free blocks, until one says that it is the last.
//
// Control queue of scatter-gather: a command is 8 bytes, u32 class and u32 command. The device
// writes one into a buffer that the driver keeps posted, the driver sends one in a readable
// buffer. The free pages themselves come over a queue of their own, a descriptor for each block.
#ifndef VBALLOON_SRC_WIRE_GUEST_REQUEST_H_
#define VBALLOON_SRC_WIRE_GUEST_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon {

// ---- request queue ------------------------------------------------------------------------------

inline constexpr std::size_t kRequestBytes = 16;

enum class RequestCommand : std::uint8_t {
  kUnusedPages = 0,  // param: the id of the request
  kDropCache = 1,    // this project's; param: which caches, as in /proc/sys/vm/drop_caches
};

struct GuestRequest {
  std::uint16_t command = 0;
  std::uint64_t param = 0;
};
VBALLOON_EXPORT void write_request(std::span<std::byte, kRequestBytes> out,
                                   const GuestRequest& request);
[[nodiscard]] VBALLOON_EXPORT GuestRequest
read_request(std::span<const std::byte, kRequestBytes> in);

inline constexpr std::size_t kAnswerHeaderBytes = 8;

// The header of an answer.
struct AnswerHeader {
  std::uint8_t command = 0;
  bool last = false;     // there is no other one to this request
  std::uint16_t id = 0;  // the lowest bits of the request's param
  std::uint32_t data_bytes = 0;
};
VBALLOON_EXPORT void write_answer_header(std::span<std::byte, kAnswerHeaderBytes> out,
                                         const AnswerHeader& header);
[[nodiscard]] VBALLOON_EXPORT AnswerHeader
read_answer_header(std::span<const std::byte, kAnswerHeaderBytes> in);

// ---- control queue ------------------------------------------------------------------------------

inline constexpr std::size_t kControlBytes = 8;
inline constexpr std::uint32_t kFreePageClass = 0;

enum class ControlCommand : std::uint32_t { kStop = 0, kStart = 1 };

struct ControlMessage {
  std::uint32_t of_class = kFreePageClass;
  std::uint32_t command = 0;
};
VBALLOON_EXPORT void write_control(std::span<std::byte, kControlBytes> out, ControlCommand command);
[[nodiscard]] VBALLOON_EXPORT ControlMessage
read_control(std::span<const std::byte, kControlBytes> in);

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_GUEST_REQUEST_H_
