// SPDX-License-Identifier: MIT
// Reads the messages of descriptor chains into one batch of page ranges, piece by piece.
//
// A payload is copied out in windows of at most 64 KiB, each once; what is checked is the copy.
// The batch is bounded: without has_room() the caller must take what is there first. A message can
// be left in its middle for as long as its chain is held.
#ifndef VBALLOON_SRC_DEVICE_MESSAGE_READER_H_
#define VBALLOON_SRC_DEVICE_MESSAGE_READER_H_

#include <algorithm>
#include <cassert>
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

// A place in a message.
struct MessagePlace {
  std::uint64_t bytes = 0;    // of the payload in front of it
  std::uint64_t buffers = 0;  // that are writable
};

class MessageReader {
 public:
  // A batch never holds more ranges than this.
  static constexpr std::size_t kMaxBatchRanges = 2 * kMaxRangesPerWindow;

  MessageReader();

  // Begins with the message of a chain, which all steps have to be given. An error means that
  // there is nothing to be read. With `from` it goes on where another reader stopped: the payload
  // before that is read once more, for the decoder to get there, and what it names is dropped.
  [[nodiscard]] std::optional<Errc> begin(Codec codec, const DescriptorChain& chain,
                                          MessagePlace from = {});
  // Where it stands. Requires reading().
  [[nodiscard]] MessagePlace place() const { return {payload_.offset, next_buffer_}; }

  // A message has been begun and not read to its end.
  [[nodiscard]] bool reading() const { return decoder_ != nullptr; }
  // The batch has room for what one step can bring.
  [[nodiscard]] bool has_room() const {
    return batch_.size() + kMaxRangesPerWindow <= kMaxBatchRanges;
  }

  // Reads one window, or some buffers, and returns how many payload bytes these were (none for what
  // is read once more, so that a budget is not spent on getting there again); calls error(Errc) for
  // each thing that is wrong. Requires reading() and has_room().
  template <typename OnError>
  std::uint64_t step(const DescriptorChain& chain, OnError error) {
    assert(reading() && has_room());
    const std::uint64_t left = unread_bytes();
    if (payload_.left != 0 || payload_.tail != 0) {
      if (const auto bad = read_window(chain)) {
        error(*bad);
        stop();
      } else if (payload_.left == 0) {
        payload_.tail = 0;  // the rest is no whole entry: the decoder knows, and says so at the end
      }
      if (!reading() || payload_.left != 0) return left - unread_bytes();
    }
    const auto buffers = chain.writable();
    const std::size_t end = std::min(buffers.size(), next_buffer_ + kBuffersPerStep);
    for (; next_buffer_ < end && has_room(); ++next_buffer_) {
      apart_ = false;
      if (const auto bad = decoder_->buffer(buffers[next_buffer_], batch_)) error(*bad);
    }
    if (next_buffer_ == buffers.size()) {
      if (const auto bad = decoder_->end()) error(*bad);
      stop();
    }
    return left - unread_bytes();
  }

  // Ends the message where it stands; what was read of it stays in the batch.
  void stop() { decoder_ = nullptr; }

  [[nodiscard]] PageRanges& batch() { return batch_; }
  // Puts the batch in order, as sort_and_merge() does; returns how many pages were named more than
  // once.
  std::uint64_t order_batch();

 private:
  static constexpr std::size_t kBuffersPerStep = 256;

  // How far the payload has been read.
  struct Payload {
    std::uint64_t left = 0;  // bytes not copied yet
    std::uint64_t offset = 0;
    std::size_t tail = 0;  // bytes at the front of the window that the decoder left over
  };
  std::optional<Errc> read_window(const DescriptorChain& chain);
  // Those that no reader has read.
  [[nodiscard]] std::uint64_t unread_bytes() const {
    const std::uint64_t again = again_up_to_ - std::min(again_up_to_, payload_.offset);
    return payload_.left - std::min(payload_.left, again);
  }

  std::vector<std::unique_ptr<Decoder>> decoders_;  // by Codec
  std::vector<std::byte> window_;
  Decoder* decoder_ = nullptr;
  Payload payload_;
  std::uint64_t again_up_to_ = 0;  // what stands before this in the payload was read before
  std::size_t next_buffer_ = 0;
  PageRanges batch_;
  bool apart_ = false;  // the batch is known to be in order
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_MESSAGE_READER_H_
