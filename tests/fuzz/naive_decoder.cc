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

// Nothing behind it is looked at.
bool refuse(NaiveMessage& message, Errc code) {
  message.errors.push_back(code);
  return false;
}

bool read_single_header(std::span<const std::byte> payload, NaiveMessage& message) {
  if (payload.size() < 32) return refuse(message, Errc::kBadMessageHeader);
  const std::uint64_t shift = number_at(payload, 2, 2);
  const std::uint64_t start = number_at(payload, 16, 8);
  const auto bitmap = payload.subspan(32);
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 52;
  if (number_at(payload, 0, 2) != 0 || number_at(payload, 24, 8) != bitmap.size() ||
      bitmap.size() % 8 != 0 || shift < 12 || shift > 51 || start > kEnd) {
    return refuse(message, Errc::kBadMessageHeader);
  }
  const std::uint64_t block = std::uint64_t{1} << (shift - 12);
  if (8 * bitmap.size() > (kEnd - start) / block) return refuse(message, Errc::kBadMessageHeader);
  for (std::uint64_t bit = 0; bit < 8 * bitmap.size(); ++bit) {
    const std::uint64_t byte = number_at(bitmap, bit / 8, 1);
    if ((byte >> bit % 8 & 1) != 0) message.pages.push_back({start + bit * block, block});
  }
  return true;
}

bool read_range_list(std::span<const std::byte> payload, NaiveMessage& message) {
  if (payload.size() < 8) return refuse(message, Errc::kBadMessageHeader);
  const auto data = payload.subspan(8);
  if (number_at(payload, 0, 1) != 0 || number_at(payload, 4, 4) != data.size() ||
      data.size() % 8 != 0) {
    return refuse(message, Errc::kBadMessageHeader);
  }
  for (std::size_t at = 0; at < data.size(); at += 8) {
    const std::uint64_t head = number_at(data, at, 8);
    std::uint64_t count = head & 0xFFF;
    if (count == 0) {
      at += 8;
      if (at == data.size()) {
        message.cut = Errc::kBadRecord;
        return true;
      }
      count = number_at(data, at, 8);
      if (count == 0 || count > std::uint64_t{1} << 52) return refuse(message, Errc::kBadRecord);
    }
    message.pages.push_back({head >> 12, count});
  }
  return true;
}

bool read_page_chunks(std::span<const std::byte> payload, NaiveMessage& message) {
  if (payload.size() < 8) return refuse(message, Errc::kBadMessageHeader);
  const auto chunks = payload.subspan(8);
  if (chunks.size() % 16 != 0 || number_at(payload, 0, 8) != chunks.size() / 16) {
    return refuse(message, Errc::kBadMessageHeader);
  }
  for (std::size_t at = 0; at < chunks.size(); at += 16) {
    const std::uint64_t count = number_at(chunks, at + 8, 8) >> 12;
    if (count == 0) return refuse(message, Errc::kBadRecord);
    message.pages.push_back({number_at(chunks, at, 8) >> 12, count});
  }
  return true;
}

bool read_cont_pages(std::span<const std::byte> payload, NaiveMessage& message) {
  for (std::size_t at = 0; at + 8 <= payload.size(); at += 8) {
    const std::uint64_t bytes = number_at(payload, at + 4, 4);
    if (bytes == 0 || bytes % 4096 != 0) return refuse(message, Errc::kBadRecord);
    message.pages.push_back({number_at(payload, at, 4), bytes / 4096});
  }
  if (payload.size() % 8 != 0) message.cut = Errc::kPayloadNotMultiple;
  return true;
}

// False when the message ends at once.
bool read_bitmap(std::span<const std::byte> payload, NaiveMessage& message) {
  if (payload.size() < 8) return refuse(message, Errc::kBadMessageHeader);
  const std::uint64_t header = number_at(payload, 0, 8);
  const std::uint64_t command = header & 0xFF;
  const auto data = payload.subspan(8);
  const std::size_t unit = command == 0 ? 8 : 4;
  if (command > 1 || header >> 32 != data.size() || data.size() % unit != 0) {
    return refuse(message, Errc::kBadMessageHeader);
  }
  if (command == 1) {
    read_array(data, 4, message);
    return true;
  }
  if (!read_records(data, message)) return refuse(message, Errc::kBadRecord);
  if (ends_within_a_record(data)) message.cut = Errc::kBadRecord;
  return true;
}

bool read_arrays(std::span<const std::byte> payload, std::size_t entry, NaiveMessage& message) {
  read_array(payload, entry, message);
  if (payload.size() % 4 != 0) message.cut = Errc::kPayloadNotMultiple;
  return true;
}

// False when the message ends at once.
bool read_payload(Codec codec, std::span<const std::byte> payload, NaiveMessage& message) {
  switch (codec) {
    case Codec::kPfnArray:
      return read_arrays(payload, 4, message);
    case Codec::kWidePfnArray:
      return read_arrays(payload, has_wide_entries(payload) ? 8 : 4, message);
    case Codec::kPageBitmap:
      return read_bitmap(payload, message);
    case Codec::kSingleHeader:
      return read_single_header(payload, message);
    case Codec::kRangeList:
      return read_range_list(payload, message);
    case Codec::kPageChunks:
      return read_page_chunks(payload, message);
    case Codec::kContPages:
      return read_cont_pages(payload, message);
    case Codec::kChunk:
      break;
  }
  return false;
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
    if (!payload.empty()) return {{}, {Errc::kUnexpectedReadable}, {}};
    for (const GuestBuffer& buffer : writable) read_chunk(buffer, message);
    return message;
  }
  if (payload.empty()) return {{}, {Errc::kPayloadMissing}, {}};
  if (!read_payload(codec, payload, message)) return message;
  message.errors.insert(message.errors.end(), writable.size(), Errc::kUnexpectedWritable);
  if (message.cut) message.errors.push_back(*message.cut);
  return message;
}

}  // namespace vballoon::fuzz
