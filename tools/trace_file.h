// SPDX-License-Identifier: MIT
// Traces of a driver and a device as files: one JSON object a line (docs/formats.md).
#ifndef VBALLOON_TOOLS_TRACE_FILE_H_
#define VBALLOON_TOOLS_TRACE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "vballoon/device_queue.h"
#include "vballoon/features.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"
#include "vballoon/trace.h"

namespace vballoon::tool {

// What a line says, by the calls of Trace.
struct TracedMemory {
  std::vector<RegionLayout> regions;
};
struct TracedReset {};
struct TracedFeatures {
  Features negotiated;
};
struct TracedQueue {
  std::uint16_t index = 0;
  std::uint16_t size = 0;
};
struct TracedKick {
  std::uint16_t queue = 0;
};
struct TracedMessage {
  std::uint16_t queue = 0;
  std::vector<GuestBuffer> readable{};
  std::vector<GuestBuffer> writable{};
  std::vector<std::byte> payload{};

  [[nodiscard]] std::uint64_t readable_bytes() const;
};
struct TracedConfigWrite {
  std::uint64_t offset = 0;
  std::vector<std::byte> bytes;
};
struct TracedTarget {
  std::uint32_t pages = 0;
};
struct TracedHintCommand {
  std::uint32_t id = 0;
};
using TraceEvent = std::variant<TracedMemory, TracedReset, TracedFeatures, TracedQueue, TracedKick,
                                TracedMessage, TracedConfigWrite, TracedTarget, TracedHintCommand>;

// One line, without its end; and back. parse_trace_line() fails with kInvalidArgument.
[[nodiscard]] std::string trace_line(const TraceEvent& event);
[[nodiscard]] Result<TraceEvent> parse_trace_line(std::string_view line);

// Fails with kInvalidArgument, and the number of the line, for what is no trace.
[[nodiscard]] Result<std::vector<TraceEvent>> read_trace(const std::string& path);

// Makes events of what it is told, one at a time.
class TraceRecorder final : public Trace {
 public:
  explicit TraceRecorder(std::function<void(const TraceEvent&)> sink) : sink_(std::move(sink)) {}

  void memory(const GuestMemory& memory) override;
  void reset() override;
  void features(Features negotiated) override;
  void queue(std::uint16_t index, const QueueConfig& config) override;
  void kick(std::uint16_t queue) override;
  void message(std::uint16_t queue, std::span<const GuestBuffer> readable,
               std::span<const GuestBuffer> writable, std::span<const std::byte> payload) override;
  void config_write(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void target(std::uint32_t pages) override;
  void hint_command(std::uint32_t id) override;

 private:
  void say(const TraceEvent& event);

  std::mutex lock_;
  const std::function<void(const TraceEvent&)> sink_;
};

// Writes a file, each line at once: what stands there when a daemon is killed is whole.
[[nodiscard]] Result<std::unique_ptr<TraceRecorder>> record_trace(const std::string& path);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_TRACE_FILE_H_
