// SPDX-License-Identifier: MIT
#include "wire/guest_request.h"

#include <algorithm>

#include "wire/little_endian.h"

namespace vballoon {
namespace {

constexpr std::size_t kParamOffset = 8;
constexpr std::uint64_t kLastAnswer = 1;  // the flag of a header

}  // namespace

void write_request(std::span<std::byte, kRequestBytes> out, const GuestRequest& request) {
  std::ranges::fill(out, std::byte{0});
  store_le(out.data(), request.command);
  store_le(out.data() + kParamOffset, request.param);
}

GuestRequest read_request(std::span<const std::byte, kRequestBytes> in) {
  return {load_le<std::uint16_t>(in.data()), load_le<std::uint64_t>(in.data() + kParamOffset)};
}

void write_answer_header(std::span<std::byte, kAnswerHeaderBytes> out, const AnswerHeader& header) {
  store_le(out.data(), std::uint64_t{header.command} | (header.last ? kLastAnswer : 0) << 8 |
                           std::uint64_t{header.id} << 16 | std::uint64_t{header.data_bytes} << 32);
}

AnswerHeader read_answer_header(std::span<const std::byte, kAnswerHeaderBytes> in) {
  const auto value = load_le<std::uint64_t>(in.data());
  return {.command = static_cast<std::uint8_t>(value),
          .last = (value >> 8 & 0xFF) == kLastAnswer,
          .id = static_cast<std::uint16_t>(value >> 16),
          .data_bytes = static_cast<std::uint32_t>(value >> 32)};
}

void write_control(std::span<std::byte, kControlBytes> out, ControlCommand command) {
  store_le(out.data(), kFreePageClass);
  store_le(out.data() + sizeof kFreePageClass, static_cast<std::uint32_t>(command));
}

ControlMessage read_control(std::span<const std::byte, kControlBytes> in) {
  return {load_le<std::uint32_t>(in.data()),
          load_le<std::uint32_t>(in.data() + sizeof kFreePageClass)};
}

}  // namespace vballoon
