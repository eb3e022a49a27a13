// SPDX-License-Identifier: MIT
// Serving a queue: taking chains, reading what they say, and returning them.
#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "device/balloon_device_impl.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kDescriptorBytes = 16;
constexpr std::uint64_t kHintCommandBytes = 4;

std::uint64_t queue_bytes_of(const DescriptorChain& chain) {
  return chain.readable_bytes() +
         kDescriptorBytes * (chain.readable().size() + chain.writable().size());
}

std::uint64_t& messages_of(BalloonMetrics& metrics, QueueUse use) {
  switch (use) {
    case QueueUse::kInflate:
      return metrics.inflate_messages;
    case QueueUse::kDeflate:
      return metrics.deflate_messages;
    case QueueUse::kStats:
      return metrics.stats_messages;
    case QueueUse::kReports:
      return metrics.report_messages;
    case QueueUse::kHints:
      break;
  }
  return metrics.hint_messages;
}

}  // namespace

// Time since the last lap, on the thread that serves.
std::chrono::nanoseconds BalloonDevice::Impl::lap() {
  const auto now = options.clock();
  return now - std::exchange(lap_start, now);
}

BalloonDevice::Impl::Turn BalloonDevice::Impl::serve(std::uint16_t index, bool watching) {
  Turn turn;
  Queue& queue = queues[index];
  HintState hints_before{};
  {
    const std::lock_guard guard(state_lock);
    hints_before = hints.state();
    if ((registers.status() & kStatusDriverOk) == 0) early_kicks |= 1U << index;
    if (!registers.running() || !queue.ring.ready()) return turn;
    if (should_stop()) {
      turn.more = true;
      return turn;
    }
  }
  lap_start = options.clock();
  // Free pages that the control queue asks for come over another queue. What lies there before the
  // guest is asked is of an earlier round, and what lies there when it has ended belongs to it.
  std::optional<std::uint16_t> free_pages;
  if (queue.row->role == QueueRole::kControl) {
    const std::lock_guard guard(state_lock);
    free_pages = queue_of(QueueRole::kFreePages);
  }
  if (free_pages) serve_queue(*free_pages, watching, turn);
  if (!turn.more) serve_queue(index, watching, turn);
  if (free_pages && !turn.more) serve_queue(*free_pages, watching, turn);

  const std::lock_guard guard(state_lock);
  if (turn.notify_config) registers.require_reset();
  turn.news = std::exchange(errors_counted, false) || turn.news || turn.notify_config ||
              hints.state() != hints_before;
  if (turn.discards_owed && options.discards_owed) {
    turn.discards_owed = std::exchange(owed_discards_idle, false);
  }
  metrics.stages.decode += lap();
  return turn;
}

void BalloonDevice::Impl::serve_queue(std::uint16_t index, bool watching, Turn& turn) {
  Queue& queue = queues[index];
  if (!queue.ring.ready()) return;
  served = use_of(queue.row->role);
  queue.ring.disable_kicks();
  Left left{options.budget.pages, options.budget.bytes, queue.config.size};
  bool more = false;
  switch (queue.row->role) {
    case QueueRole::kInflate:
    case QueueRole::kDeflate:
    case QueueRole::kFreePageHint:
    case QueueRole::kReporting:
    case QueueRole::kFreePages:
      more = serve_pages(queue, left);
      break;
    case QueueRole::kRequest:
      more = serve_pages(queue, left);
      send_request(queue);
      break;
    case QueueRole::kStats:
      serve_stats(queue, left);
      break;
    case QueueRole::kControl:
      serve_control(queue, left);
      break;
  }
  const bool notify = queue.ring.publish();
  turn.discards_owed = std::exchange(turn_put_off, false) || turn.discards_owed;
  // With something left to do there is no need for a kick.
  if (watching) {
    more = more || turn_messages != 0;
  } else if (!more) {
    more = queue.ring.enable_kicks();
  }
  // 2.1.2: a ring that makes no sense any more needs a reset, and the driver is told.
  const bool broken = !queue.ring.ready();
  turn.notify_config = turn.notify_config || broken;
  turn.more = turn.more || (more && !broken);
  turn.notify_queues |= static_cast<std::uint32_t>(notify) << index;

  const std::lock_guard guard(state_lock);
  turn.news = turn.news || (queue.row->role == QueueRole::kStats && turn_messages != 0);
  const bool all_read = queue.row->role == QueueRole::kFreePages && !more;
  if (all_read && requests.all_named() && hints.active()) hints.exhausted();
  messages_of(metrics, *std::exchange(served, std::nullopt)) += std::exchange(turn_messages, 0);
  metrics.queue_bytes += std::exchange(turn_queue_bytes, 0);
  metrics.notifications += notify ? 1 : 0;
}

void BalloonDevice::Impl::trace_message(const Queue& queue, const DescriptorChain& chain) {
  traced.resize(
      static_cast<std::size_t>(std::min<std::uint64_t>(chain.readable_bytes(), kMaxTracedBytes)));
  if (!chain.read(0, traced)) traced.clear();
  const auto index = static_cast<std::uint16_t>(&queue - queues.data());
  options.trace->message(index, chain.readable(), chain.writable(), traced);
}

// The next chain that can be read, if there is one and the turn may go on.
Result<std::optional<DescriptorChain>> BalloonDevice::Impl::take_chain(Queue& queue, Left& left) {
  while (left.chains != 0 && !should_stop()) {
    auto chain = queue.ring.pop();
    if (!chain) {
      count(chain.error().code);
      if (!queue.ring.ready()) return chain;
      --left.chains;
      continue;
    }
    if (*chain) {
      --left.chains;
      ++turn_messages;
      turn_queue_bytes += queue_bytes_of(**chain);
      if (options.trace != nullptr) trace_message(queue, **chain);
    }
    return chain;
  }
  return std::nullopt;
}

// ---- messages that name pages -----------------------------------------------------------------

bool BalloonDevice::Impl::serve_pages(Queue& queue, Left& left) {
  PageMessages& messages = *queue.pages;
  for (;;) {
    const bool more = !messages.pending() && fill_batch(queue, left);
    if (messages.pending() && !deal_with_batch(queue, left)) return true;
    answer(queue);
    if (!more) return messages.current || messages.resume || should_stop();
  }
}

// Reads messages until the batch is full, there are no more, or the turn must end. True when the
// batch has to be dealt with before more is read.
bool BalloonDevice::Impl::fill_batch(Queue& queue, Left& left) {
  PageMessages& messages = *queue.pages;
  const auto count_error = [this](Errc code) { count(code); };
  while (left.bytes != 0 && !should_stop()) {
    if (!messages.reader.has_room()) return true;
    if (!messages.current && !take_message(queue, left)) {
      return std::exchange(queue.buffer_waits, false);
    }
    if (!messages.reader.reading()) {
      // What stands in front of a command belongs to the round that it may end.
      if (messages.pending() && is_hint_command(queue)) return true;
      begin_message(queue);
    }
    if (messages.reader.reading()) {
      left.bytes -= std::min(left.bytes, messages.reader.step(*messages.current, count_error));
    }
    if (!messages.reader.reading()) {
      messages.read.push_back(*std::exchange(messages.current, std::nullopt));
    }
  }
  return false;
}

bool BalloonDevice::Impl::take_message(Queue& queue, Left& left) {
  PageMessages& messages = *queue.pages;
  for (;;) {
    // One that was put back was counted when it came.
    const bool again = messages.resume.has_value();
    auto chain = again ? queue.ring.pop() : take_chain(queue, left);
    if (again && !chain) count(chain.error().code);  // the driver has changed it since
    if (!chain || !*chain) {
      messages.resume.reset();
      return false;
    }
    if (queue.row->role != QueueRole::kRequest || (*chain)->readable_bytes() != 0) {
      messages.current = std::move(*chain);
      return true;
    }
    messages.resume.reset();
    // Held behind messages it would keep their room: they are answered first.
    const std::uint64_t bytes = queue_bytes_of(**chain);
    if (!messages.read.empty() && (*chain)->release()) {
      --turn_messages;
      turn_queue_bytes -= bytes;
      queue.buffer_waits = true;
      return false;
    }
    hold_request_buffer(queue, *std::move(*chain));
  }
}

// Leaves the reader alone when there is nothing to be read.
void BalloonDevice::Impl::begin_message(Queue& queue) {
  PageMessages& messages = *queue.pages;
  const auto place = std::exchange(messages.resume, std::nullopt).value_or(MessagePlace{});
  if (is_hint_command(queue)) return receive_hint_command(*messages.current);
  if (queue.row->role == QueueRole::kRequest) {
    if (!receive_answer(queue)) return;
  } else if (brings_hints(*queue.row)) {
    const std::lock_guard guard(state_lock);
    if (!hints.active()) return;
  }
  const auto bad = messages.reader.begin(codec_of(*queue.row), *messages.current, place);
  if (bad) count(*bad);
}

// Does with the pages of the batch what the queue is for. False when the turn ended first.
bool BalloonDevice::Impl::deal_with_batch(Queue& queue, Left& left) {
  PageMessages& messages = *queue.pages;
  {
    const auto decode = lap();
    const std::uint64_t repeated = messages.order();
    const std::lock_guard guard(state_lock);
    metrics.stages.decode += decode;
    count_locked(Errc::kPageRepeated, repeated);
  }
  while (messages.pending()) {
    if (left.pages == 0 || should_stop()) return false;
    const auto pages = messages.next_portion(left.pages);
    std::uint64_t named = 0;
    for (const PageRange& range : pages) named += range.count;
    left.pages -= std::min(left.pages, named);
    switch (queue.row->role) {
      case QueueRole::kInflate:
        inflate(pages);
        break;
      case QueueRole::kDeflate:
        deflate(pages);
        break;
      case QueueRole::kReporting:
        report_free(pages);
        break;
      default:
        hint_free(pages);
        break;
    }
  }
  messages.clear_batch();
  return true;
}

void BalloonDevice::Impl::answer(Queue& queue) {
  for (DescriptorChain& chain : queue.pages->read) chain.complete();
  queue.pages->read.clear();
  if (!queue.round_ends || queue.pages->current) return;
  queue.round_ends = false;
  const std::lock_guard guard(state_lock);
  if (hints.active()) hints.exhausted();
}

// ---- commands of free page hints ----------------------------------------------------------------

// Unlike in the other queues the order of messages matters: pages that stand behind a command id
// belong to it.
bool BalloonDevice::Impl::is_hint_command(const Queue& queue) const {
  return queue.row->role == QueueRole::kFreePageHint && queue.pages->current->readable_bytes() != 0;
}

void BalloonDevice::Impl::receive_hint_command(const DescriptorChain& chain) {
  std::array<std::byte, kHintCommandBytes> bytes{};
  const bool whole = chain.readable_bytes() == bytes.size() && chain.writable().empty();
  const auto read = whole ? chain.read(0, bytes) : fail(Errc::kBadHintCommand);
  if (!read) {
    count(read.error().code);
    return;
  }
  const std::lock_guard guard(state_lock);
  hints.received(load_le<std::uint32_t>(bytes.data()));
}

// ---- statistics --------------------------------------------------------------------------------

void BalloonDevice::Impl::serve_stats(Queue& queue, Left& left) {
  auto chain = take_chain(queue, left);
  for (; chain && *chain; chain = take_chain(queue, left)) {
    std::array<std::byte, kMaxStatsBytes> bytes;
    const std::uint64_t size = (*chain)->readable_bytes();
    const auto message = std::span(bytes).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(size, bytes.size())));
    const auto read = (*chain)->read(0, message);
    if (!read) count(read.error().code);
    if (size == 0) count(Errc::kPayloadMissing);
    // Whole entries count, whatever stands behind them.
    if (size % kStatEntryBytes != 0) count(Errc::kPayloadNotMultiple);
    if (!queue.held.empty()) {
      // Not the one that is held: behind it the room of others would not come back.
      count(Errc::kStatsBufferExtra);
      (*chain)->complete();
    } else {
      queue.held.push_back(*std::move(*chain));
    }
    const std::lock_guard guard(state_lock);
    if (read) {
      stats.answered(parse_stats(message), options.clock());
    } else {
      stats.unreadable();
    }
  }
  static_cast<void>(ask_for_stats(queue));
}

// Uses the buffer that is held, if it is time to: that is the request. True when it did.
bool BalloonDevice::Impl::ask_for_stats(Queue& queue) {
  if (queue.held.empty()) return false;
  {
    const std::lock_guard guard(state_lock);
    const auto now = options.clock();
    if (!stats.due(now)) return false;
    stats.asked(now);
  }
  queue.held.front().complete();
  queue.held.clear();
  return true;
}

// Only the statistics depend on time.
BalloonDevice::Impl::Turn BalloonDevice::Impl::tick(std::uint16_t stats_index) {
  Turn turn;
  Queue& queue = queues[stats_index];
  {
    const std::lock_guard guard(state_lock);
    if (!registers.running() || !queue.ring.ready()) return turn;
  }
  // With the buffer there is room for those that a queue was too full to take.
  if (ask_for_stats(queue)) turn.more = queue.ring.enable_kicks();
  const bool notify = queue.ring.publish();
  turn.notify_queues = static_cast<std::uint32_t>(notify) << stats_index;
  const std::lock_guard guard(state_lock);
  metrics.notifications += notify ? 1 : 0;
  // A buffer that comes asks by itself; until then time changes nothing.
  if (!queue.held.empty()) turn.next_tick = stats.next_time();
  return turn;
}

}  // namespace vballoon
