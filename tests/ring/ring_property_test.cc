// SPDX-License-Identifier: MIT
// Both sides of a ring against a model: any order of adding, taking and returning.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "ring/driver_queue.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

struct Sent {
  std::uint64_t token = 0;
  std::vector<GuestBuffer> readable;
  std::vector<GuestBuffer> writable;
};

struct Done {
  std::uint64_t token = 0;
  std::uint32_t written = 0;
};

// The rings under test and, beside them, plain queues that say what must happen.
class RingAndModel {
 public:
  explicit RingAndModel(const QueueConfig& config) : size_(config.size), config_(config) {
    config_.indirect = true;
    driver_ = DriverQueue::create(memory_, config_).value();
    RC_ASSERT(device_.start(memory_, config_).has_value());
  }

  void step() {
    switch (*rc::gen::weightedElement<int>(
        {{4, 0}, {2, 1}, {4, 2}, {4, 3}, {2, 4}, {3, 5}, {2, 6}, {1, 7}})) {
      case 0:
        return add();
      case 1:
        return publish_added();
      case 2:
        return pop();
      case 3:
        return complete();
      case 4:
        return publish_used();
      case 5:
        return take_used();
      case 6:
        return release();
      case 7:
        return move_to_another_queue();
    }
  }

  void drain() {
    publish_added();
    while (!published_.empty() || !held_.empty()) {
      pop();
      while (!held_.empty()) complete();
    }
    publish_used();
    while (!visible_.empty()) take_used();
    take_used();
    RC_ASSERT(driver_->free_descriptors() == size_);
    RC_ASSERT(driver_->bogus_used() == 0u);
  }

 private:
  static constexpr std::uint64_t kTables = 0x40000;

  std::vector<GuestBuffer> pieces(std::size_t count) {
    std::vector<GuestBuffer> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back({++next_address_ * 4096, 64});
    return all;
  }

  void add() {
    const auto readable = *rc::gen::inRange<std::size_t>(0, 4);
    const auto writable = *rc::gen::inRange<std::size_t>(readable == 0 ? 1 : 0, 4);
    const bool indirect = *rc::gen::arbitrary<bool>();
    const std::size_t count = readable + writable;
    Sent sent{++next_token_, pieces(readable), pieces(writable)};
    // Tables are told apart by token: more than can be in flight at once.
    const std::uint64_t table = kTables + next_token_ % 64 * 128;
    const bool fits =
        indirect ? free_ >= 1 && count <= size_ : free_ >= static_cast<std::uint16_t>(count);
    const bool added = indirect
                           ? driver_->add_indirect(sent.readable, sent.writable, table, sent.token)
                           : driver_->add(sent.readable, sent.writable, sent.token);
    RC_ASSERT(added == fits);
    if (!added) return;
    taken_descriptors_[sent.token] = static_cast<std::uint16_t>(indirect ? 1 : count);
    free_ = static_cast<std::uint16_t>(free_ - taken_descriptors_[sent.token]);
    RC_ASSERT(driver_->free_descriptors() == free_);
    added_.push_back(std::move(sent));
  }

  void publish_added() {
    (void)driver_->publish();
    for (auto& sent : added_) published_.push_back(std::move(sent));
    added_.clear();
  }

  void pop() {
    auto popped = device_.pop();
    RC_ASSERT(popped.has_value());
    if (!*popped) {
      // The pool may be full; with no chain held it never is.
      RC_ASSERT(published_.empty() || !held_.empty());
      return;
    }
    RC_ASSERT(!published_.empty());
    const auto readable = (*popped)->readable();
    const auto writable = (*popped)->writable();
    const Sent& sent = published_.front();
    RC_ASSERT(std::vector(readable.begin(), readable.end()) == sent.readable);
    RC_ASSERT(std::vector(writable.begin(), writable.end()) == sent.writable);
    held_.push_back({std::move(**popped), sent, ++taken_});
    published_.pop_front();
  }

  void complete() {
    if (held_.empty()) return;
    const auto which = static_cast<std::ptrdiff_t>(*rc::gen::inRange<std::size_t>(0, held_.size()));
    auto& [chain, sent, number] = held_[static_cast<std::size_t>(which)];
    // What is held keeps its buffers, whatever came and went around it.
    const auto writable = chain.writable();
    RC_ASSERT(std::vector(writable.begin(), writable.end()) == sent.writable);
    const std::uint32_t written = *rc::gen::inRange<std::uint32_t>(0, 64);
    chain.complete(written);
    completed_.emplace(number, Done{sent.token, written});
    held_.erase(held_.begin() + which);
    return_completed();
  }

  // In order, what is completed waits for all that was taken before it.
  void return_completed() {
    while (!completed_.empty() && (!config_.in_order || held_.empty() ||
                                   completed_.begin()->first < held_.front().number)) {
      returned_.push_back(completed_.begin()->second);
      completed_.erase(completed_.begin());
    }
  }

  void release() {
    if (held_.empty()) return;
    const bool is_last = held_.back().number == taken_;
    RC_ASSERT(held_.back().chain.release() == is_last);
    if (!is_last) return;
    --taken_;
    published_.push_front(std::move(held_.back().sent));
    held_.pop_back();
  }

  // As a device does that is saved and restored.
  void move_to_another_queue() {
    if (!held_.empty()) return;
    publish_used();
    const QueuePosition position = device_.position();
    device_.reset();
    RC_ASSERT(device_.start(memory_, config_, position).has_value());
  }

  void publish_used() {
    (void)device_.publish();
    visible_.insert(visible_.end(), returned_.begin(), returned_.end());
    returned_.clear();
  }

  void take_used() {
    const auto used = driver_->take_used();
    RC_ASSERT(used.has_value() == !visible_.empty());
    if (!used) return;
    RC_ASSERT(used->token == visible_.front().token);
    RC_ASSERT(used->written == visible_.front().written);
    free_ = static_cast<std::uint16_t>(free_ + taken_descriptors_[used->token]);
    taken_descriptors_.erase(used->token);
    visible_.pop_front();
  }

  struct Held {
    DescriptorChain chain;
    Sent sent;
    std::uint64_t number;  // of all that were taken
  };

  const std::uint16_t size_;
  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(1 << 20);
  QueueConfig config_;
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;

  std::uint64_t next_token_ = 0;
  std::uint64_t next_address_ = 0;
  std::uint16_t free_ = size_;
  std::map<std::uint64_t, std::uint16_t> taken_descriptors_;
  std::vector<Sent> added_;
  std::deque<Sent> published_;
  std::vector<Held> held_;
  std::uint64_t taken_ = 0;
  std::map<std::uint64_t, Done> completed_;  // and not returned yet
  std::deque<Done> returned_;
  std::deque<Done> visible_;
};

RC_GTEST_PROP(RingProperty, AnyOrderOfWorkMatchesTheModel, ()) {
  const bool packed = *rc::gen::arbitrary<bool>();
  const auto size = packed ? *rc::gen::inRange<std::uint16_t>(1, 17)
                           : *rc::gen::element<std::uint16_t>(1, 2, 4, 8, 16);
  QueueConfig config = lay_out_ring(size, 0, packed).config;
  config.event_index = *rc::gen::arbitrary<bool>();
  config.in_order = *rc::gen::arbitrary<bool>();
  RingAndModel ring(config);
  const int steps = *rc::gen::inRange(0, 200);

  for (int i = 0; i < steps; ++i) ring.step();

  ring.drain();
}

}  // namespace
}  // namespace vballoon
