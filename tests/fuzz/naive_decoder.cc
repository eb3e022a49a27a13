// SPDX-License-Identifier: MIT
#include "fuzz/naive_decoder.h"

#include <cstdint>

namespace vballoon::fuzz {
namespace {

constexpr std::size_t kLargestWideMessage = std::size_t{64} << 10;

std::uint64_t number_at(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) {
    value |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
  }
  return value;
}

bool has_wide_entries(std::span<const std::byte> payload) {
  if (payload.size() % 8 != 0 || payload.size() > kLargestWideMessage) return false;
  for (std::size_t at = 4; at < payload.size(); at += 8) {
    if (number_at(payload, at, 4) != 0) return false;
  }
  return true;
}

void read_array(std::span<const std::byte> payload, std::size_t entry, NaiveMessage& message) {
  for (std::size_t at = 0; at + entry <= payload.size(); at += entry) {
    message.pages.push_back({number_at(payload, at, 4), 1});
  }
}

// False when a record is wrong: nothing behind it is looked at.
bool read_records(std::span<const std::byte> data, NaiveMessage& message) {
  std::size_t at = 0;
  while (at != data.size()) {
    const std::uint64_t head = number_at(data, at, 8);
    const std::uint64_t start = head & 0xFFFFFFFFFFFFF;
    const std::uint64_t shift = head >> 52 & 63;
    const std::uint64_t bitmap_bytes = head >> 58;
    if (shift < 12 || shift > 51 || bitmap_bytes % 8 != 0) return false;
    at += 8;
    const std::uint64_t block = std::uint64_t{1} << (shift - 12);
    if (bitmap_bytes == 0) message.pages.push_back({start, block});
    if (data.size() - at < bitmap_bytes) return true;  // known at the end only
    for (std::uint64_t bit = 0; bit < 8 * bitmap_bytes; ++bit) {
      const std::uint64_t byte = number_at(data, at + bit / 8, 1);
      if ((byte >> bit % 8 & 1) != 0) message.pages.push_back({start + bit * block, block});
    }
    at += bitmap_bytes;
  }
  return true;
}

bool ends_within_a_record(std::span<const std::byte> data) {
  std::size_t at = 0;
  while (at < data.size()) at += 8 + (number_at(data, at, 8) >> 58);
  return at != data.size();
}

// False when the message ends at once.
bool read_bitmap(std::span<const std::byte> payload, NaiveMessage& message) {
  const auto refuse = [&](Errc code) {
    message.errors.push_back(code);
    return false;
  };
  if (payload.size() < 8) return refuse(Errc::kBadMessageHeader);
  const std::uint64_t header = number_at(payload, 0, 8);
  const std::uint64_t command = header & 0xFF;
  const auto data = payload.subspan(8);
  const std::size_t unit = command == 0 ? 8 : 4;
  if (command > 1 || header >> 32 != data.size() || data.size() % unit != 0) {
    return refuse(Errc::kBadMessageHeader);
  }
  if (command == 1) {
    read_array(data, 4, message);
  } else if (!read_records(data, message)) {
    return refuse(Errc::kBadRecord);
  }
  return true;
}

void read_chunk(const GuestBuffer& buffer, NaiveMessage& message) {
  if (buffer.address % 4096 != 0 || buffer.length % 4096 != 0 || buffer.length == 0) {
    message.errors.push_back(Errc::kUnalignedRange);
  } else {
    message.pages.push_back({buffer.address / 4096, buffer.length / 4096});
  }
}

}  // namespace

NaiveMessage decode_naively(Codec codec, std::span<const std::byte> payload,
                            std::span<const GuestBuffer> writable) {
  NaiveMessage message;
  if (codec == Codec::kChunk) {
    if (!payload.empty()) return {{}, {Errc::kUnexpectedReadable}};
    for (const GuestBuffer& buffer : writable) read_chunk(buffer, message);
    return message;
  }
  if (payload.empty()) return {{}, {Errc::kPayloadMissing}};
  if (codec == Codec::kPageBitmap) {
    if (!read_bitmap(payload, message)) return message;
  } else {
    const bool wide = codec == Codec::kWidePfnArray && has_wide_entries(payload);
    read_array(payload, wide ? 8 : 4, message);
  }
  message.errors.insert(message.errors.end(), writable.size(), Errc::kUnexpectedWritable);
  if (codec == Codec::kPageBitmap) {
    const bool records = number_at(payload, 0, 1) == 0;
    if (records && ends_within_a_record(payload.subspan(8))) {
      message.errors.push_back(Errc::kBadRecord);
    }
  } else if (payload.size() % 4 != 0) {
    message.errors.push_back(Errc::kPayloadNotMultiple);
  }
  return message;
}

}  // namespace vballoon::fuzz
