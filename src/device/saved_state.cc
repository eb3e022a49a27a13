// SPDX-License-Identifier: MIT
#include "device/saved_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace vballoon {
namespace {

constexpr std::string_view kMagic = "vballoon";
constexpr std::size_t kHeadBytes = 24;  // magic, kind, version, length
constexpr std::size_t kChecksumBytes = 8;

}  // namespace

std::span<const std::byte> StateReader::get_bytes(std::uint64_t count) {
  ok_ = ok_ && count <= left_.size();
  if (!ok_) return {};
  const auto bytes = left_.first(static_cast<std::size_t>(count));
  left_ = left_.subspan(bytes.size());
  return bytes;
}

std::uint64_t state_checksum(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const std::byte byte : bytes) {
    hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001B3;
  }
  return hash;
}

std::vector<std::byte> seal(StateKind kind, StateWriter content) {
  StateWriter state;
  state.bytes().reserve(kHeadBytes + content.bytes().size() + kChecksumBytes);
  state.put(std::as_bytes(std::span(kMagic)));
  state.put(static_cast<std::uint32_t>(kind));
  state.put(kStateVersion);
  state.put(std::uint64_t{content.bytes().size()});
  state.put(content.bytes());
  state.put(state_checksum(state.bytes()));
  return std::move(state.bytes());
}

// The version is looked at first: what stands behind it may be something else in another one.
Result<std::span<const std::byte>> unseal(StateKind kind, std::span<const std::byte> state) {
  StateReader reader(state);
  const auto magic = reader.get_bytes(kMagic.size());
  const auto said_kind = reader.get<std::uint32_t>();
  const auto version = reader.get<std::uint32_t>();
  if (!reader.ok() || !std::ranges::equal(magic, std::as_bytes(std::span(kMagic)))) {
    return fail(Errc::kBadSavedState,
                fmt::format("{} bytes do not begin as a saved state does; restore() wants what "
                            "save() returned",
                            state.size()));
  }
  if (version != kStateVersion) {
    return fail(Errc::kBadSavedState,
                fmt::format("it is of version {} and this library reads version {}; restore it "
                            "with the library that saved it",
                            version, kStateVersion));
  }
  if (said_kind != static_cast<std::uint32_t>(kind)) {
    return fail(Errc::kBadSavedState,
                fmt::format("it is of kind {} and not {}; a transport restores what a transport "
                            "saved, a device what a device saved",
                            said_kind, static_cast<std::uint32_t>(kind)));
  }
  const auto length = reader.get<std::uint64_t>();
  const auto content = reader.get_bytes(length);
  const auto checksum = reader.get<std::uint64_t>();
  if (!reader.ok() || !reader.at_end()) {
    return fail(Errc::kBadSavedState,
                fmt::format("it says it holds {} bytes beside head and checksum, and there are {} "
                            "in all; it was cut off or added to on its way",
                            length, state.size()));
  }
  if (const auto is = state_checksum(state.first(state.size() - kChecksumBytes)); is != checksum) {
    return fail(Errc::kBadSavedState,
                fmt::format("its checksum is {:#x} and should be {:#x}; it was damaged on its way",
                            is, checksum));
  }
  return content;
}

}  // namespace vballoon
