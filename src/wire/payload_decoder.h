// SPDX-License-Identifier: MIT
// What the formats whose message is a payload have in common: perhaps a header, then entries.
#ifndef VBALLOON_SRC_WIRE_PAYLOAD_DECODER_H_
#define VBALLOON_SRC_WIRE_PAYLOAD_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/page_ranges.h"
#include "vballoon/export.h"
#include "wire/decoder.h"

namespace vballoon {

class VBALLOON_EXPORT PayloadDecoder : public Decoder {
 public:
  std::optional<Errc> begin(std::uint64_t readable_bytes, std::size_t writable_buffers) final;
  Step payload(std::span<const std::byte> window, PageRanges& out) final;
  std::optional<Errc> buffer(const GuestBuffer& buffer, PageRanges& out) final;
  std::optional<Errc> end() final;

 protected:
  // `cut` is what a message is that ends within an entry.
  PayloadDecoder(std::size_t header_bytes, Errc cut) : header_bytes_(header_bytes), cut_(cut) {}

  // Begins a message with the header's bytes and that many bytes behind them.
  virtual std::optional<Errc> read_header(std::span<const std::byte> header,
                                          std::uint64_t data_bytes);
  // Reads whole entries, as payload() does.
  virtual Step read_entries(std::span<const std::byte> window, PageRanges& out) = 0;

  // Bytes of the message that were not consumed yet.
  [[nodiscard]] std::uint64_t left() const { return left_; }

 private:
  const std::size_t header_bytes_;
  const Errc cut_;
  std::uint64_t left_ = 0;
  bool begun_ = false;  // the header was read
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_PAYLOAD_DECODER_H_
