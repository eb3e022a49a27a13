// SPDX-License-Identifier: MIT
// Writes down, in words, what a driver does to a device, and hands it on.
#ifndef VBALLOON_TESTS_CONFORMANCE_TRACED_DEVICE_H_
#define VBALLOON_TESTS_CONFORMANCE_TRACED_DEVICE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vballoon/sim/device_access.h"

namespace vballoon::testing {

class TracedDevice final : public sim::DeviceAccess {
 public:
  explicit TracedDevice(sim::DeviceAccess& device) : device_(device) {}

  Features read_features() override {
    note("read features");
    return device_.read_features();
  }
  void write_features(Features accepted) override {
    note("write features");
    device_.write_features(accepted);
  }
  std::uint8_t read_status() override {
    note("read status");
    return device_.read_status();
  }
  void write_status(std::uint8_t status) override {
    note("status " + std::to_string(status));
    device_.write_status(status);
  }
  std::uint32_t read_config(std::uint64_t offset) override {
    note("read config " + std::to_string(offset));
    return device_.read_config(offset);
  }
  void write_config(std::uint64_t offset, std::uint32_t value) override {
    note("write config " + std::to_string(offset));
    device_.write_config(offset, value);
  }
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override {
    note("queue " + std::to_string(index));
    return device_.set_queue(index, config);
  }
  Result<void> reset_queue(std::uint16_t index) override {
    note("reset queue " + std::to_string(index));
    return device_.reset_queue(index);
  }
  void notify(std::uint16_t queue) override {
    note("kick " + std::to_string(queue));
    device_.notify(queue);
  }

  // All accesses so far, those before one, and those from one on.
  [[nodiscard]] const std::vector<std::string>& trace() const { return trace_; }
  [[nodiscard]] std::vector<std::string> before(std::string_view access) const {
    return {trace_.begin(), find(access)};
  }
  [[nodiscard]] std::vector<std::string> from(std::string_view access) const {
    return {find(access), trace_.end()};
  }
  // Those that begin with some words.
  [[nodiscard]] std::vector<std::string> beginning_with(std::string_view words) const {
    std::vector<std::string> found;
    for (const std::string& access : trace_) {
      if (access.starts_with(words)) found.push_back(access);
    }
    return found;
  }

 private:
  void note(std::string access) { trace_.push_back(std::move(access)); }
  [[nodiscard]] std::vector<std::string>::const_iterator find(std::string_view access) const {
    return std::find(trace_.begin(), trace_.end(), access);
  }

  sim::DeviceAccess& device_;
  std::vector<std::string> trace_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_CONFORMANCE_TRACED_DEVICE_H_
