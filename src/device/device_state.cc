// SPDX-License-Identifier: MIT
#include "device/device_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "device/saved_state.h"

namespace vballoon {
namespace {

using std::chrono::nanoseconds;

// Pages from here on are named by no message (wire/decoder.h).
constexpr Pfn kNoPage = Pfn{1} << 53;
// Times are differences: 70 years are enough, and can be added to the time of any clock.
constexpr std::int64_t kLongest = std::int64_t{1} << 61;

constexpr std::uint8_t kStatsWanted = 1;
constexpr std::uint8_t kStatsAsked = 2;
constexpr std::uint8_t kStatsDeadline = 4;
constexpr std::uint8_t kStatsLatest = 8;

// ---- what both sides were made with ------------------------------------------------------------

// How queues are numbered, and which there are.
std::uint8_t queues_byte(const DeviceMake& make) {
  return static_cast<std::uint8_t>(static_cast<unsigned>(make.numbering) |
                                   (make.guest_requests ? 2U : 0U));
}

void put_make(StateWriter& out, const DeviceMake& make) {
  out.put(make.offered.bits());
  out.put(static_cast<std::uint8_t>(make.dialect));
  out.put(static_cast<std::uint8_t>(make.dialect_bit));
  out.put(queues_byte(make));
  out.put(static_cast<std::uint32_t>(make.regions.size()));
  for (const MemoryRegion& region : make.regions) {
    out.put(region.guest_address);
    out.put(region.bytes);
  }
}

// As many as there can be.
std::size_t queues_of(const DeviceMake& make) {
  const auto queues = dialect_row(make.dialect).queues;
  const auto requests = std::ranges::count_if(queues, &QueueRow::of_requests);
  return queues.size() - (make.guest_requests ? 0 : static_cast<std::size_t>(requests));
}

// Why a state is none of such a device; empty if it is.
std::string check_make(StateReader& in, const DeviceMake& make) {
  const auto offered = in.get<std::uint64_t>();
  const auto dialect = in.get<std::uint8_t>();
  const auto bit = in.get<std::uint8_t>();
  const auto queues = in.get<std::uint8_t>();
  if (offered != make.offered.bits()) {
    return fmt::format("its device offered features {:#x} and this one offers {:#x}", offered,
                       make.offered.bits());
  }
  if (dialect != static_cast<std::uint8_t>(make.dialect) || bit != make.dialect_bit) {
    return fmt::format("its device spoke dialect {} (bit {}) and this one speaks {} (bit {})",
                       dialect, bit, static_cast<unsigned>(make.dialect), make.dialect_bit);
  }
  if (queues != queues_byte(make)) {
    return "its device numbered queues in another way, or had others";
  }
  const auto regions = in.get<std::uint32_t>();
  if (regions != make.regions.size()) {
    return fmt::format("its guest memory had {} regions and this one has {}", regions,
                       make.regions.size());
  }
  for (const MemoryRegion& region : make.regions) {
    const auto address = in.get<std::uint64_t>();
    const auto bytes = in.get<std::uint64_t>();
    if (address != region.guest_address || bytes != region.bytes) {
      return fmt::format(
          "its guest memory had {} bytes at {:#x} where this one has {} bytes at {:#x}", bytes,
          address, region.bytes, region.guest_address);
    }
  }
  return {};
}

// ---- registers, hints, statistics --------------------------------------------------------------

void put_registers(StateWriter& out, const Registers::State& registers) {
  out.put(registers.accepted.bits());
  out.put(registers.negotiated.bits());
  out.put(registers.status);
  out.put(registers.generation);
  out.put(registers.config);
}

Registers::State get_registers(StateReader& in) {
  Registers::State registers;
  registers.accepted = Features(in.get<std::uint64_t>());
  registers.negotiated = Features(in.get<std::uint64_t>());
  registers.status = in.get<std::uint8_t>();
  registers.generation = in.get<std::uint32_t>();
  std::ranges::copy(in.get_bytes(registers.config.size()), registers.config.begin());
  return registers;
}

void put_time(StateWriter& out, nanoseconds time) {
  out.put(static_cast<std::uint64_t>(std::clamp(time.count(), -kLongest, kLongest)));
}

nanoseconds get_time(StateReader& in) {
  const auto time = static_cast<std::int64_t>(in.get<std::uint64_t>());
  if (time < -kLongest || time > kLongest) in.refuse();
  return in.ok() ? nanoseconds(time) : nanoseconds(0);
}

void put_answer(StateWriter& out, const BalloonStats& answer) {
  std::uint16_t present = 0;
  for (std::size_t tag = 0; tag < kStatCount; ++tag) {
    if (answer.values[tag]) present = static_cast<std::uint16_t>(present | 1U << tag);
  }
  put_time(out, answer.received);
  out.put(present);
  for (const auto& value : answer.values) {
    if (value) out.put(*value);
  }
  out.put(static_cast<std::uint16_t>(answer.unknown.size()));
  for (const BalloonStats::Unknown& unknown : answer.unknown) {
    out.put(unknown.tag);
    out.put(unknown.value);
  }
}

BalloonStats get_answer(StateReader& in) {
  BalloonStats answer;
  answer.received = get_time(in);
  const auto present = in.get<std::uint16_t>();
  for (std::size_t tag = 0; tag < kStatCount; ++tag) {
    if ((present >> tag & 1) != 0) answer.values[tag] = in.get<std::uint64_t>();
  }
  answer.unknown.resize(
      in.get_count<std::uint16_t>(kMaxStatsBytes / kStatEntryBytes, kStatEntryBytes));
  for (BalloonStats::Unknown& unknown : answer.unknown) {
    unknown.tag = in.get<std::uint16_t>();
    unknown.value = in.get<std::uint64_t>();
    if (unknown.tag < kStatCount) in.refuse();
  }
  return answer;
}

void put_stats(StateWriter& out, const StatsRequests::State& stats) {
  put_time(out, stats.interval);
  put_time(out, stats.next);
  out.put(static_cast<std::uint8_t>(
      (stats.wanted ? kStatsWanted : 0) | (stats.asked ? kStatsAsked : 0) |
      (stats.deadline ? kStatsDeadline : 0) | (stats.latest ? kStatsLatest : 0)));
  if (stats.deadline) put_time(out, *stats.deadline);
  if (stats.latest) put_answer(out, *stats.latest);
}

StatsRequests::State get_stats(StateReader& in) {
  StatsRequests::State stats;
  stats.interval = get_time(in);
  stats.next = get_time(in);
  const auto flags = in.get<std::uint8_t>();
  stats.wanted = (flags & kStatsWanted) != 0;
  stats.asked = (flags & kStatsAsked) != 0;
  // Who has been asked is not to be asked; an answer that is awaited was asked for.
  const bool pending = stats.wanted || stats.asked;
  if (flags > 15 || (stats.wanted && stats.asked)) in.refuse();
  if ((flags & kStatsDeadline) != 0) {
    stats.deadline = get_time(in);
    if (!pending) in.refuse();
  }
  if ((flags & kStatsLatest) != 0) stats.latest = get_answer(in);
  return stats;
}

// ---- queues ------------------------------------------------------------------------------------

constexpr std::size_t kHeldBytes = 9;
constexpr std::size_t kRangeBytes = 16;

void put_queue(StateWriter& out, const DeviceState::Queue& queue) {
  out.put(queue.config.size);
  out.put(queue.config.descriptor_table);
  out.put(queue.config.available_ring);
  out.put(queue.config.used_ring);
  out.put(queue.position.next_available);
  out.put(queue.position.next_used);
  out.put(static_cast<std::uint8_t>((queue.position.available_wrap ? 1 : 0) |
                                    (queue.position.used_wrap ? 2 : 0)));
  out.put(static_cast<std::uint16_t>(queue.held.size()));
  for (const HeldChain& chain : queue.held) {
    out.put(chain.id);
    out.put(chain.entries);
    out.put(static_cast<std::uint8_t>(chain.written ? 1 : 0));
    out.put(chain.written.value_or(0));
  }
  out.put(static_cast<std::uint32_t>(queue.pages.size()));
  for (const PageRange& range : queue.pages) {
    out.put(range.first);
    out.put(range.count);
  }
  out.put(static_cast<std::uint8_t>(queue.resume ? 1 : 0));
  if (queue.resume) {
    out.put(queue.resume->bytes);
    out.put(queue.resume->buffers);
  }
}

DeviceState::Queue get_queue(StateReader& in) {
  DeviceState::Queue queue;
  queue.config.size = in.get<std::uint16_t>();
  queue.config.descriptor_table = in.get<std::uint64_t>();
  queue.config.available_ring = in.get<std::uint64_t>();
  queue.config.used_ring = in.get<std::uint64_t>();
  queue.position.next_available = in.get<std::uint16_t>();
  queue.position.next_used = in.get<std::uint16_t>();
  const auto wraps = in.get<std::uint8_t>();
  queue.position.available_wrap = (wraps & 1) != 0;
  queue.position.used_wrap = (wraps & 2) != 0;
  if (queue.config.size > kBalloonMaxQueueSize || wraps > 3) in.refuse();
  queue.held.resize(in.get_count<std::uint16_t>(queue.config.size, kHeldBytes));
  for (HeldChain& chain : queue.held) {
    chain.id = in.get<std::uint16_t>();
    chain.entries = in.get<std::uint16_t>();
    const auto answered = in.get<std::uint8_t>();
    const auto written = in.get<std::uint32_t>();
    if (answered > 1) in.refuse();
    if (answered == 1) chain.written = written;
  }
  const std::size_t ranges =
      in.get_count<std::uint32_t>(MessageReader::kMaxBatchRanges, kRangeBytes);
  queue.pages.reserve(ranges);
  for (std::size_t i = 0; i < ranges; ++i) {
    const PageRange range{in.get<std::uint64_t>(), in.get<std::uint64_t>()};
    const bool possible = range.count != 0 && range.count <= kNoPage && range.first <= kNoPage &&
                          range.end() <= kNoPage;
    if (!possible || (i != 0 && range.first <= queue.pages.back().end())) in.refuse();
    queue.pages.push_back(range);
  }
  const auto resumes = in.get<std::uint8_t>();
  if (resumes > 1) in.refuse();
  if (resumes == 1) {
    const auto bytes = in.get<std::uint64_t>();
    const auto buffers = in.get<std::uint64_t>();
    queue.resume = MessagePlace{bytes, buffers};
  }
  return queue;
}

// ---- the ledger --------------------------------------------------------------------------------

// Words that are all the same are as good as none: a balloon is made of large pieces.
enum class Words : std::uint32_t { kZeros, kOnes, kVerbatim };
constexpr unsigned kCountBits = 30;

Words kind_of(std::uint64_t word) {
  if (word == 0) return Words::kZeros;
  return word == ~std::uint64_t{0} ? Words::kOnes : Words::kVerbatim;
}

void put_words(StateWriter& out, std::span<const std::uint64_t> words) {
  while (!words.empty()) {
    const Words kind = kind_of(words.front());
    const auto other = std::ranges::find_if(
        words.first(std::min(words.size(), (std::size_t{1} << kCountBits) - 1)),
        [kind](std::uint64_t word) { return kind_of(word) != kind; });
    const auto count = static_cast<std::size_t>(other - words.begin());
    out.put(static_cast<std::uint32_t>(kind) << kCountBits | static_cast<std::uint32_t>(count));
    if (kind == Words::kVerbatim) {
      for (const std::uint64_t word : words.first(count)) out.put(word);
    }
    words = words.subspan(count);
  }
}

void get_words(StateReader& in, std::span<std::uint64_t> words) {
  while (!words.empty()) {
    const auto head = in.get<std::uint32_t>();
    const auto kind = static_cast<Words>(head >> kCountBits);
    const std::size_t count = head & ((1U << kCountBits) - 1);
    if (count == 0 || count > words.size() || kind > Words::kVerbatim) in.refuse();
    if (!in.ok()) return;
    for (std::uint64_t& word : words.first(count)) {
      if (kind == Words::kVerbatim) {
        word = in.get<std::uint64_t>();
      } else {
        word = kind == Words::kOnes ? ~std::uint64_t{0} : 0;
      }
    }
    words = words.subspan(count);
  }
}

}  // namespace

std::vector<std::byte> encode(const DeviceState& state, const DeviceMake& make) {
  StateWriter out;
  put_make(out, make);
  put_registers(out, state.registers);
  out.put(state.early_kicks);
  out.put(static_cast<std::uint8_t>(state.hint_state));
  out.put(state.hint_id);
  put_stats(out, state.stats);
  for (const auto& queue : std::span(state.queues).first(queues_of(make))) {
    out.put(static_cast<std::uint8_t>(queue ? 1 : 0));
    if (queue) put_queue(out, *queue);
  }
  put_words(out, state.ledger.ballooned().words());
  put_words(out, state.ledger.owed().words());
  return seal(StateKind::kBalloonDevice, std::move(out));
}

Result<DeviceState> decode(std::span<const std::byte> bytes, const DeviceMake& make) {
  const auto content = unseal(StateKind::kBalloonDevice, bytes);
  if (!content) return tl::unexpected(content.error());
  StateReader in(*content);
  if (std::string why = check_make(in, make); !why.empty()) {
    return fail(Errc::kBadSavedState,
                why + "; create the device with the memory and the options that it had");
  }
  std::uint64_t pages = 0;
  for (const MemoryRegion& region : make.regions) pages += region.pages().count;
  DeviceState state;
  state.registers = get_registers(in);
  state.ledger = Ledger(pages);
  state.early_kicks = in.get<std::uint32_t>();
  const auto hint_state = in.get<std::uint8_t>();
  if (hint_state > static_cast<std::uint8_t>(HintState::kDone)) in.refuse();
  state.hint_state = static_cast<HintState>(hint_state);
  state.hint_id = in.get<std::uint32_t>();
  state.stats = get_stats(in);
  for (auto& queue : std::span(state.queues).first(queues_of(make))) {
    const auto present = in.get<std::uint8_t>();
    if (present > 1) in.refuse();
    if (present == 1) queue = get_queue(in);
  }
  PageSet ballooned(pages);
  PageSet owed(pages);
  get_words(in, ballooned.words());
  get_words(in, owed.words());
  if (!state.ledger.restore(std::move(ballooned), std::move(owed))) in.refuse();
  if (!in.ok() || !in.at_end()) {
    return fail(Errc::kBadSavedState,
                "its checksum is right and its content is none that a device can have; it was "
                "not made by save()");
  }
  return state;
}

}  // namespace vballoon
