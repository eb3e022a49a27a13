// SPDX-License-Identifier: MIT
// Reads the messages of descriptor chains into one batch of page ranges.
//
// A payload is copied out in windows of at most 64 KiB, each once; what is checked is the copy.
// The batch is bounded: when the next window could overflow it, the caller must take what is
// there first.
#ifndef VBALLOON_SRC_DEVICE_MESSAGE_READER_H_
#define VBALLOON_SRC_DEVICE_MESSAGE_READER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/device_queue.h"
#include "vballoon/error.h"
#include "vballoon/page_range.h"
#include "wire/decoder.h"
#include "wire/dialect.h"

namespace vballoon {

class MessageReader {
 public:
  // A batch never holds more ranges than this.
  static constexpr std::size_t kMaxBatchRanges = 2 * kMaxRangesPerWindow;

  MessageReader();

  // Reads the whole message of a chain. `make_room()` is called when the batch has to be emptied
  // before more can be read; `go_on()` after each piece of work, and ends the message there when
  // it answers false; `error(Errc)` for each thing that is wrong.
  template <typename MakeRoom, typename GoOn, typename OnError>
  void read(Codec codec, const DescriptorChain& chain, MakeRoom make_room, GoOn go_on,
            OnError error) {
    Decoder& decoder = *decoders_[static_cast<std::size_t>(codec)];
    if (const auto bad = decoder.begin(chain.readable_bytes(), chain.writable().size())) {
      error(*bad);
      return;
    }
    Payload payload{chain.readable_bytes()};
    while (payload.left != 0 || payload.tail != 0) {
      if (batch_.size() + kMaxRangesPerWindow > kMaxBatchRanges) make_room();
      if (!go_on()) return;
      if (const auto bad = read_window(decoder, chain, payload)) {
        error(*bad);
        return;
      }
      if (payload.stuck) break;
    }
    for (const GuestBuffer& buffer : chain.writable()) {
      if (batch_.size() == kMaxBatchRanges) make_room();
      if (!go_on()) return;
      apart_ = false;
      if (const auto bad = decoder.buffer(buffer, batch_)) error(*bad);
    }
    if (const auto bad = decoder.end()) error(*bad);
  }

  [[nodiscard]] PageRanges& batch() { return batch_; }
  // Puts the batch in order, as sort_and_merge() does; returns how many pages were named more than
  // once.
  std::uint64_t order_batch();

 private:
  // How far the payload of one message has been read.
  struct Payload {
    std::uint64_t left;  // bytes not copied yet
    std::uint64_t offset = 0;
    std::size_t tail = 0;  // bytes at the front of the window that the decoder left over
    bool stuck = false;    // the rest is no whole entry
  };
  std::optional<Errc> read_window(Decoder& decoder, const DescriptorChain& chain, Payload& payload);

  std::vector<std::unique_ptr<Decoder>> decoders_;  // by Codec
  std::vector<std::byte> window_;
  PageRanges batch_;
  bool apart_ = false;  // the batch is known to be in order
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_MESSAGE_READER_H_
