// SPDX-License-Identifier: MIT
// Which pages a device may change at a moment, told from what the driver sent and what came back
// (docs/architecture.md, "When a page may be changed").
//
// Of each message is known what it names at the most and what it names for certain: the same but
// for a message that cannot be read to its end.
#ifndef VBALLOON_TESTS_FUZZ_CHANGE_MODEL_H_
#define VBALLOON_TESTS_FUZZ_CHANGE_MODEL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/watched_memory.h"
#include "vballoon/balloon_registers.h"
#include "wire/dialect.h"

namespace vballoon::fuzz {

struct SentMessage {
  QueueRole role = QueueRole::kInflate;
  std::uint16_t id = 0;
  std::uint16_t descriptors = 0;
  std::uint64_t work = 0;  // turns that it can take
  WatchedPages most;
  WatchedPages certain;
};

class ChangeModel {
 public:
  // With MUST_TELL_HOST pages in the balloon may be changed at any time.
  void start(bool may_owe) {
    *this = {};
    may_owe_ = may_owe;
  }

  void sent(std::uint16_t queue, SentMessage message) { waiting_.at(queue).push_back(message); }

  // The device returned a chain; gives how many descriptors are free by that.
  SentMessage answered(std::uint16_t queue, std::uint32_t id, std::uint32_t written) {
    auto& waiting = waiting_.at(queue);
    const auto found = std::ranges::find(waiting, id, &SentMessage::id);
    check(found != waiting.end(), "a chain comes back once, and was sent before");
    check(written == 0, "a device writes nothing into a message");
    const SentMessage message = *found;
    waiting.erase(found);
    if (message.role == QueueRole::kInflate) {
      most_ |= message.most;
      certain_ |= message.certain;
      doubt(QueueRole::kDeflate, message);
    } else if (message.role == QueueRole::kDeflate) {
      most_ &= ~message.certain;
      certain_ &= ~message.most;
      doubt(QueueRole::kInflate, message);
    }
    return message;
  }

  // Chains that will never come back; a part of what they name may have been booked.
  void forget(std::uint16_t queue) {
    for (const SentMessage& message : of(queue)) {
      if (message.role == QueueRole::kInflate) {
        most_ |= message.most;
        doubt(QueueRole::kDeflate, message);
      } else if (message.role == QueueRole::kDeflate) {
        certain_ &= ~message.most;
        doubt(QueueRole::kInflate, message);
      }
    }
    waiting_.at(queue).clear();
  }

  // What may be discarded while a queue is served.
  [[nodiscard]] WatchedPages while_serving(QueueRole role, bool poisoned) const {
    if (role == QueueRole::kInflate) return put_off() | waiting(role);
    if (role == QueueRole::kReporting && !poisoned) return waiting(role);
    return {};
  }
  // What may be discarded of that which was put off.
  [[nodiscard]] WatchedPages put_off() const {
    return may_owe_ ? most_ | waiting(QueueRole::kInflate) : WatchedPages{};
  }

  [[nodiscard]] WatchedPages waiting(QueueRole role) const {
    WatchedPages pages;
    for (const auto& queue : waiting_) {
      for (const SentMessage& message : queue) {
        if (message.role == role) pages |= message.most;
      }
    }
    return pages;
  }
  [[nodiscard]] const std::vector<SentMessage>& of(std::uint16_t queue) const {
    return waiting_.at(queue);
  }
  // In the balloon at the most, and for certain.
  [[nodiscard]] WatchedPages most() const { return most_ | waiting(QueueRole::kInflate); }
  [[nodiscard]] WatchedPages certain() const { return certain_ & ~waiting(QueueRole::kDeflate); }

 private:
  // A page that an inflate and a deflate name at the same time may be on either side afterwards.
  void doubt(QueueRole waiting, const SentMessage& message) {
    for (auto& queue : waiting_) {
      for (SentMessage& other : queue) {
        if (other.role == waiting) other.certain &= ~message.most;
      }
    }
  }

  bool may_owe_ = false;
  std::array<std::vector<SentMessage>, kMaxBalloonQueues> waiting_;
  WatchedPages most_;
  WatchedPages certain_;
};

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_CHANGE_MODEL_H_
