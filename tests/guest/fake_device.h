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
    if (dialect != Dialect::kStandard) offered = offered.with_bit(kPublishedDialectBit);
  }
  Features offered = kStandardFeatures;
  bool accepts_features = true;
  std::optional<Errc> refuses_queues;
  std::uint32_t target = 0;
  bool answers = true;                                         // at once, within the kick
  std::function<void(const DecodedMessage&)> on_message = {};  // seen, not answered

  // Answers that many of the chains that are held, the oldest first.
  void answer(std::size_t chains = SIZE_MAX) {
    std::array<bool, 2> publish{};
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
  std::vector<DecodedMessage> messages;  // all so far
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  std::array<QueueConfig, 2> configs;
  [[nodiscard]] const PageSet& ballooned() const { return ballooned_; }
  [[nodiscard]] std::size_t held() const { return held_.size(); }

  // ---- what the driver sees ---------------------------------------------------------------

  Features read_features() override { return offered; }
  void write_features(Features features) override { accepted = features; }
  std::uint8_t read_status() override {
    const std::uint8_t status = statuses.empty() ? std::uint8_t{0} : statuses.back();
    const int hidden = accepts_features ? 0 : kStatusFeaturesOk;
    return static_cast<std::uint8_t>(status & ~hidden);
  }
  void write_status(std::uint8_t status) override { statuses.push_back(status); }
  std::uint32_t read_config(std::uint64_t offset) override {
    return offset == kNumPagesOffset ? target : 0;
  }
  void write_config(std::uint64_t offset, std::uint32_t value) override {
    if (offset != kActualOffset) throw std::runtime_error("driver writes a field of the device");
    actuals.push_back(value);
  }
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override {
    if (refuses_queues) return fail(*refuses_queues, "scripted");
    configs.at(index) = config;
    queues_.at(index) = std::make_unique<DeviceQueue>();
    return queues_[index]->start(memory_, config);
  }
  void notify(std::uint16_t index) override {
    ++kicks;
    take(index);
    if (answers) answer();
  }

 private:
  void take(std::uint16_t index) {
    const Dialect spoken = negotiated_dialect(dialect_, kPublishedDialectBit, accepted);
    const QueueRow& row = dialect_row(spoken).queues[index];
    do {
      while (auto chain = queues_[index]->pop().value()) {
        messages.push_back(decode_message(*row.codec, index, *chain));
        held_.emplace_back(index, std::move(*chain));
        if (on_message) on_message(messages.back());
        book(row.role, messages.back().pages);
      }
    } while (queues_[index]->enable_kicks());
  }

  void book(QueueRole role, const PageRanges& pages) {
    for (const PageRange& range : pages) {
      const auto changed =
          role == QueueRole::kInflate ? ballooned_.add(range) : ballooned_.remove(range);
      if (changed != range.count) throw std::runtime_error("a page is inflated or deflated twice");
    }
  }

  const std::shared_ptr<const GuestMemory> memory_;
  Dialect dialect_ = Dialect::kStandard;
  PageSet ballooned_;
  std::array<std::unique_ptr<DeviceQueue>, 2> queues_;
  std::deque<std::pair<std::uint16_t, DescriptorChain>> held_;  // before queues_ go
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_FAKE_DEVICE_H_
