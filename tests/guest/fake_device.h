// SPDX-License-Identifier: MIT
// A scripted balloon device on the other end of the simulated driver's rings, in one thread.
#ifndef VBALLOON_TESTS_GUEST_FAKE_DEVICE_H_
#define VBALLOON_TESTS_GUEST_FAKE_DEVICE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "base/page_set.h"
#include "guest/decoded_message.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/sim/device_access.h"
#include "wire/dialect.h"

namespace vballoon::testing {

// Answers every message at once, unless it is told to hold them. Throws when a message is
// malformed, or when the driver inflates a page twice or deflates one that is not inflated.
class FakeDevice final : public sim::DeviceAccess {
 public:
  static constexpr Features kStandardFeatures{Feature::kVersion1, Feature::kMustTellHost};

  explicit FakeDevice(std::shared_ptr<const GuestMemory> memory)
      : memory_(std::move(memory)), ballooned_(memory_->regions().back().pages().end()) {}

  // ---- what a test sets -------------------------------------------------------------------

  // Speaks that dialect to a driver that accepts its bit, which is offered.
  void speak(Dialect dialect) {
    dialect_ = dialect;
    if (dialect != Dialect::kStandard) offered = offered.with_bit(published_bit(dialect));
  }
  Features offered = kStandardFeatures;
  bool accepts_features = true;
  std::optional<Errc> refuses_queues;
  std::uint16_t first_refused_queue = 0;
  std::uint16_t largest_queue = kMaxQueueSize;
  bool queue_resets_end = true;
  bool pages_repeat = false;   // a page may be inflated twice
  bool wide_pfns = false;      // arrays have 64-bit numbers
  bool needs_reset = false;    // until it is reset
  int reads_during_reset = 0;  // of the status, before it is 0
  std::uint32_t target = 0;
  std::uint32_t hint_command = kHintStop;
  bool answers = true;                                         // at once, within the kick
  bool deaf = false;                                           // to kicks
  std::function<void(const DecodedMessage&)> on_message = {};  // seen, not answered
  std::function<void(std::uint8_t)> on_status = {};            // about to be written

  // Answers that many of the chains that are held, the oldest first.
  void answer(std::size_t chains = SIZE_MAX) {
    std::array<bool, kMaxBalloonQueues> publish{};
    for (; chains != 0 && !held_.empty(); --chains) {
      held_.front().second.complete();
      publish[held_.front().first] = true;
      held_.pop_front();
    }
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      if (publish[i] && queues_[i]->publish()) ++interrupts;
    }
  }

  // ---- what a test looks at ---------------------------------------------------------------

  Features accepted;
  std::vector<std::uint8_t> statuses;    // as written
  std::vector<std::uint32_t> actuals;    // as written
  std::vector<std::uint32_t> poisons;    // as written
  std::vector<DecodedMessage> messages;  // all so far
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t queue_resets = 0;
  std::array<QueueConfig, kMaxBalloonQueues> configs;
  [[nodiscard]] const PageSet& ballooned() const { return ballooned_; }
  [[nodiscard]] std::size_t held() const { return held_.size(); }
  [[nodiscard]] std::vector<DecodedMessage> messages_on(QueueRole role) const {
    std::vector<DecodedMessage> found;
    for (const DecodedMessage& message : messages) {
      if (queue_map()[message.queue]->role == role) found.push_back(message);
    }
    return found;
  }
  // The last of the queues for that: where a driver names blocks, if it has them.
  [[nodiscard]] std::uint16_t last_queue(QueueRole role) const {
    const QueueMap map = queue_map();
    std::uint16_t last = 0;
    for (std::uint16_t i = 0; i < map.size(); ++i) {
      if (map[i] != nullptr && map[i]->role == role) last = i;
    }
    return last;
  }
  // Sees what a queue has, without a kick.
  void look(std::uint16_t index) {
    if (index < queues_.size() && queues_[index]) take(index);
  }

  // ---- what the driver sees ---------------------------------------------------------------

  Features read_features() override { return offered; }
  void write_features(Features features) override { accepted = features; }
  std::uint8_t read_status() override {
    if (resetting_ > 0) {
      --resetting_;
      return kStatusDriver;
    }
    const std::uint8_t status = statuses.empty() ? std::uint8_t{0} : statuses.back();
    const int hidden = accepts_features ? 0 : kStatusFeaturesOk;
    return static_cast<std::uint8_t>((status & ~hidden) | (needs_reset ? kStatusNeedsReset : 0));
  }
  void write_status(std::uint8_t status) override {
    if (on_status) on_status(status);
    statuses.push_back(status);
    if (status != 0) return;
    resetting_ = reads_during_reset;
    needs_reset = false;
    for (auto& queue : queues_) {
      if (queue) queue->reset();
    }
    held_.clear();
    ballooned_.clear();
  }
  std::uint32_t read_config(std::uint64_t offset) override {
    if (offset == kHintCommandOffset) return hint_command;
    return offset == kNumPagesOffset ? target : 0;
  }
  void write_config(std::uint64_t offset, std::uint32_t value) override {
    if (offset != kActualOffset && offset != kPoisonValueOffset) {
      throw std::runtime_error("driver writes a field of the device");
    }
    (offset == kActualOffset ? actuals : poisons).push_back(value);
  }
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override {
    if (refuses_queues && index >= first_refused_queue) return fail(*refuses_queues, "scripted");
    if (config.size > largest_queue) return fail(Errc::kBadQueueConfig, "scripted");
    configs.at(index) = config;
    queues_.at(index) = std::make_unique<DeviceQueue>();
    return queues_[index]->start(memory_, config);
  }
  // What was made available and not taken is lost, and so is what is held.
  Result<void> reset_queue(std::uint16_t index) override {
    ++queue_resets;
    if (!queue_resets_end) return fail(Errc::kNotSupported, "scripted");
    queues_.at(index)->reset();
    std::erase_if(held_, [index](const auto& held) { return held.first == index; });
    return {};
  }
  void notify(std::uint16_t index) override {
    ++kicks;
    if (needs_reset || deaf) return;
    take(index);
    if (answers) answer();
  }

 private:
  [[nodiscard]] QueueMap queue_map() const {
    const Dialect spoken = negotiated_dialect(dialect_, published_bit(dialect_), accepted);
    const bool standard = spoken == Dialect::kStandard;
    return number_queues(dialect_row(spoken),
                         standard ? accepted : accepted.without_bit(published_bit(dialect_)),
                         QueueNumbering::kDense);
  }

  void take(std::uint16_t index) {
    const QueueRow& row = *queue_map()[index];
    do {
      while (auto chain = queues_[index]->pop().value()) {
        messages.push_back(decode(row, index, *chain));
        held_.emplace_back(index, std::move(*chain));
        if (on_message) on_message(messages.back());
        book(row.role, messages.back().pages);
      }
    } while (queues_[index]->enable_kicks());
  }

  [[nodiscard]] DecodedMessage decode(const QueueRow& row, std::uint16_t index,
                                      const DescriptorChain& chain) const {
    const bool is_command = row.role == QueueRole::kFreePageHint && chain.readable_bytes() != 0;
    const bool names_pages = row.codec && !is_command;
    if (!names_pages) return read_message(index, chain);
    const bool wide = wide_pfns && *row.codec == Codec::kPfnArray;
    return decode_message(wide ? Codec::kWidePfnArray : *row.codec, index, chain);
  }

  void book(QueueRole role, const PageRanges& pages) {
    if (role != QueueRole::kInflate && role != QueueRole::kDeflate) return;
    for (const PageRange& range : pages) {
      const auto changed =
          role == QueueRole::kInflate ? ballooned_.add(range) : ballooned_.remove(range);
      if (changed != range.count && !pages_repeat)
        throw std::runtime_error("a page is inflated or deflated twice");
    }
  }

  const std::shared_ptr<const GuestMemory> memory_;
  Dialect dialect_ = Dialect::kStandard;
  PageSet ballooned_;
  int resetting_ = 0;  // reads of the status until it is 0
  std::array<std::unique_ptr<DeviceQueue>, kMaxBalloonQueues> queues_;
  std::deque<std::pair<std::uint16_t, DescriptorChain>> held_;  // before queues_ go
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_FAKE_DEVICE_H_
