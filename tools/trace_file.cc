// SPDX-License-Identifier: MIT
#include "trace_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    fmt::format_to(std::back_inserter(text), "{:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

std::vector<std::byte> bytes_of_hex(const std::string& text) {
  std::vector<std::byte> bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    unsigned value = 0;
    const char* const from = text.data() + 2 * i;
    const auto read = std::from_chars(from, from + 2, value, 16);
    if (read.ec != std::errc{} || read.ptr != from + 2)
      throw std::invalid_argument("no hex digits");
    bytes[i] = static_cast<std::byte>(value);
  }
  if (text.size() % 2 != 0) throw std::invalid_argument("half a byte");
  return bytes;
}

Json buffers_json(std::span<const GuestBuffer> buffers) {
  Json json = Json::array();
  for (const GuestBuffer& buffer : buffers) json.push_back({buffer.address, buffer.length});
  return json;
}

std::vector<GuestBuffer> buffers_of(const Json& json) {
  std::vector<GuestBuffer> buffers;
  for (const Json& pair : json) buffers.push_back({pair.at(0), pair.at(1)});
  return buffers;
}

struct ToJson {
  Json operator()(const TracedMemory& memory) const {
    Json json{{"event", "memory"}, {"regions", Json::array()}};
    for (const RegionLayout& region : memory.regions) {
      json["regions"].push_back({region.guest_address, region.bytes});
    }
    return json;
  }
  Json operator()(const TracedReset&) const { return {{"event", "reset"}}; }
  Json operator()(const TracedFeatures& features) const {
    return {{"event", "features"}, {"bits", features.negotiated.bits()}};
  }
  Json operator()(const TracedQueue& queue) const {
    return {{"event", "queue"}, {"queue", queue.index}, {"size", queue.size}};
  }
  Json operator()(const TracedKick& kick) const {
    return {{"event", "kick"}, {"queue", kick.queue}};
  }
  Json operator()(const TracedMessage& message) const {
    return {{"event", "message"},
            {"queue", message.queue},
            {"readable", buffers_json(message.readable)},
            {"writable", buffers_json(message.writable)},
            {"payload", hex(message.payload)}};
  }
  Json operator()(const TracedConfigWrite& write) const {
    return {{"event", "config-write"}, {"offset", write.offset}, {"bytes", hex(write.bytes)}};
  }
  Json operator()(const TracedTarget& target) const {
    return {{"event", "target"}, {"pages", target.pages}};
  }
  Json operator()(const TracedHintCommand& command) const {
    return {{"event", "hint-command"}, {"id", command.id}};
  }
};

TraceEvent event_of(const Json& json) {
  const std::string name = json.at("event");
  if (name == "memory") {
    TracedMemory memory;
    for (const Json& pair : json.at("regions")) memory.regions.push_back({pair.at(0), pair.at(1)});
    return memory;
  }
  if (name == "reset") return TracedReset{};
  if (name == "features") return TracedFeatures{Features(json.at("bits").get<std::uint64_t>())};
  if (name == "queue") return TracedQueue{json.at("queue"), json.at("size")};
  if (name == "kick") return TracedKick{json.at("queue")};
  if (name == "message") {
    return TracedMessage{json.at("queue"), buffers_of(json.at("readable")),
                         buffers_of(json.at("writable")), bytes_of_hex(json.at("payload"))};
  }
  if (name == "config-write") {
    return TracedConfigWrite{json.at("offset"), bytes_of_hex(json.at("bytes"))};
  }
  if (name == "target") return TracedTarget{json.at("pages")};
  if (name == "hint-command") return TracedHintCommand{json.at("id")};
  throw std::invalid_argument(fmt::format("'{}' is no event of a trace", name));
}

}  // namespace

std::uint64_t TracedMessage::readable_bytes() const {
  return std::accumulate(
      readable.begin(), readable.end(), std::uint64_t{0},
      [](std::uint64_t sum, const GuestBuffer& buffer) { return sum + buffer.length; });
}

std::string trace_line(const TraceEvent& event) { return std::visit(ToJson(), event).dump(); }

Result<TraceEvent> parse_trace_line(std::string_view line) {
  try {
    return event_of(Json::parse(line));
  } catch (const std::exception& error) {
    return fail(Errc::kInvalidArgument, error.what());
  }
}

Result<std::vector<TraceEvent>> read_trace(const std::string& path) {
  std::ifstream in(path);
  if (!in) return fail(Errc::kInvalidArgument, "cannot read " + path, errno);
  std::vector<TraceEvent> events;
  std::string line;
  for (std::uint64_t number = 1; std::getline(in, line); ++number) {
    auto event = parse_trace_line(line);
    if (!event) {
      return fail(Errc::kInvalidArgument,
                  fmt::format("{}, line {}: {}", path, number, event.error().context));
    }
    events.push_back(std::move(*event));
  }
  return events;
}

Result<std::unique_ptr<TraceRecorder>> record_trace(const std::string& path) {
  const std::shared_ptr<std::FILE> file(std::fopen(path.c_str(), "we"), [](std::FILE* opened) {
    if (opened != nullptr) std::fclose(opened);
  });
  if (file == nullptr) return fail(Errc::kInvalidArgument, "cannot write " + path, errno);
  return std::make_unique<TraceRecorder>([file](const TraceEvent& event) {
    std::fputs((trace_line(event) + '\n').c_str(), file.get());
    std::fflush(file.get());
  });
}

void TraceRecorder::say(const TraceEvent& event) {
  const std::lock_guard guard(lock_);
  sink_(event);
}

void TraceRecorder::memory(const GuestMemory& memory) {
  TracedMemory event;
  for (const MemoryRegion& region : memory.regions()) {
    event.regions.push_back({region.guest_address, region.bytes});
  }
  say(event);
}
void TraceRecorder::reset() { say(TracedReset{}); }
void TraceRecorder::features(Features negotiated) { say(TracedFeatures{negotiated}); }
void TraceRecorder::queue(std::uint16_t index, const QueueConfig& config) {
  say(TracedQueue{index, config.size});
}
void TraceRecorder::kick(std::uint16_t queue) { say(TracedKick{queue}); }
void TraceRecorder::message(std::uint16_t queue, std::span<const GuestBuffer> readable,
                            std::span<const GuestBuffer> writable,
                            std::span<const std::byte> payload) {
  say(TracedMessage{queue,
                    {readable.begin(), readable.end()},
                    {writable.begin(), writable.end()},
                    {payload.begin(), payload.end()}});
}
void TraceRecorder::config_write(std::uint64_t offset, std::span<const std::byte> bytes) {
  say(TracedConfigWrite{offset, {bytes.begin(), bytes.end()}});
}
void TraceRecorder::target(std::uint32_t pages) { say(TracedTarget{pages}); }
void TraceRecorder::hint_command(std::uint32_t id) { say(TracedHintCommand{id}); }

}  // namespace vballoon::tool
