// SPDX-License-Identifier: MIT
// The formats of docs/formats.md read once more, entry by entry and without the library's wire
// room: what the decoders are compared with.
#ifndef VBALLOON_TESTS_FUZZ_NAIVE_DECODER_H_
#define VBALLOON_TESTS_FUZZ_NAIVE_DECODER_H_

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/error.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/page_range.h"
#include "wire/dialect.h"

namespace vballoon::fuzz {

struct NaiveMessage {
  std::vector<PageRange> pages;  // as they are named: any order, again and again
  std::vector<Errc> errors;      // in the order in which a reader meets them
  std::optional<Errc> cut;       // the message ends within an entry; in `errors` as well
};

[[nodiscard]] NaiveMessage decode_naively(Codec codec, std::span<const std::byte> payload,
                                          std::span<const GuestBuffer> writable);

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_NAIVE_DECODER_H_
