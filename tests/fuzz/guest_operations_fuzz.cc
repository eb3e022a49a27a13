// SPDX-License-Identifier: MIT
// A whole device behind virtio-mmio, with the real kernel below, and a driver that sends it any
// messages at all, in any order with what a driver and an embedder can do meanwhile.
//
// Input: the options of the device; then operations. The oracle is ChangeModel with WatchedMemory:
// a page is discarded only while it may be changed, what was not discarded keeps its contents. And
// every chain comes back, but for the statistics buffer, within a number of turns that the work
// explains; the metrics add up; what is in the balloon is what was sent.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/change_model.h"
#include "fuzz/fuzz_driver.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/fuzz_messages.h"
#include "fuzz/naive_decoder.h"
#include "fuzz/watched_memory.h"
#include "transport/mmio_registers.h"
#include "vballoon/transport/mmio.h"

// The device's buffers are large; freed ones must not pile up.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=1"; }

namespace vballoon::fuzz {
namespace {

using std::chrono::nanoseconds;
using testing::HandPieces;

constexpr std::size_t kMostOperations = 200;
constexpr unsigned kDialectBit = 50;
constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
constexpr std::uint8_t kRunning = kNegotiated | kStatusDriverOk;

Features take_features(FuzzInput& input) {
  constexpr std::array kBits{
      Feature::kMustTellHost,  Feature::kStatsVq,      Feature::kFreePageHint, Feature::kPagePoison,
      Feature::kPageReporting, Feature::kIndirectDesc, Feature::kEventIdx,     Feature::kRingPacked,
      Feature::kInOrder,       Feature::kRingReset,    Feature::kDeflateOnOom};
  const auto bits = input.take<std::uint16_t>();
  Features features;
  for (std::size_t i = 0; i < kBits.size(); ++i) {
    if ((bits >> i & 1) != 0) features = features.with(kBits[i]);
  }
  // Most inputs should speak the dialect.
  return (bits >> 12 & 3) != 3 ? features.with_bit(kDialectBit) : features;
}

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input), driver_(watched().memory()) {
    watched().restart();
    make_device();
  }

  void run() {
    set_up();
    for (std::size_t i = 0; i < kMostOperations && !input_.done(); ++i) {
      operate();
      check_metrics();
    }
    finish();
  }

 private:
  static WatchedMemory& watched() {
    static WatchedMemory memory;
    return memory;
  }
  BalloonDevice& device() { return transport_->device(); }

  // ---- set-up ----------------------------------------------------------------------------------

  void make_device() {
    const auto kind = input_.take<std::uint8_t>();
    const auto more = input_.take<std::uint8_t>();
    BalloonOptions options;
    options.dialect = static_cast<Dialect>(kind % all_dialects().size());
    options.dialect_bit = kDialectBit;
    options.features = take_features(input_).without_bit(kDialectBit);
    const DeflateAction action =
        kind / 64 == 3 ? DeflateAction::kCollapse : DeflateAction::kWillNeed;
    options.deflate_action = (more & 1) != 0 ? action : DeflateAction::kNothing;
    options.huge_pages = static_cast<HugePagePolicy>(kind / 64 % 3);
    options.numbering = (more & 2) != 0 ? QueueNumbering::kFixed : QueueNumbering::kDense;
    if ((more & 4) != 0) options.wide_pfns = (more & 8) != 0;
    options.write_behind = (more & 16) != 0;
    if ((more & 32) != 0) options.max_owed_bytes = input_.take<std::uint8_t>() * kPageSize;
    if ((more & 64) != 0) {
      options.budget = {1u + input_.take<std::uint8_t>(), 1u + input_.take<std::uint16_t>()};
    }
    if ((more & 128) != 0) options.discards_owed = [] {};
    options.on_free_page_hints = [this](std::span<const PageRange> pages) { take_hints(pages); };
    options.clock = [this] { return now_; };
    options_ = std::move(options);
    strategy_ = static_cast<DiscardStrategy>(kind / 3 % 3);
    transport_ = make_transport();
  }
  std::unique_ptr<MmioTransport> make_transport() {
    auto made = MmioTransport::create(watched().memory(),
                                      std::make_unique<WatchedDiscarder>(watched(), strategy_),
                                      BalloonOptions(options_));
    check(made.has_value(), "the options make a device");
    return std::move(*made);
  }

  void write(MmioRegister which, std::uint32_t value) {
    transport_->write(static_cast<std::uint64_t>(which), 4, value);
  }
  std::uint32_t read(MmioRegister which) {
    return static_cast<std::uint32_t>(transport_->read(static_cast<std::uint64_t>(which), 4));
  }
  std::uint8_t status() { return static_cast<std::uint8_t>(read(MmioRegister::kStatus)); }

  // What a driver does from the reset on, with some of what is offered.
  void set_up() {
    roles_.fill(std::nullopt);
    const Features wanted = take_features(input_).with(Feature::kVersion1);
    negotiated_ = Features(wanted.bits() & device().offered_features().bits());
    model_.start(negotiated_.has(Feature::kMustTellHost));
    size_ = input_.take<std::uint8_t>() % kMostEntries + 1;
    if (!negotiated_.has(Feature::kRingPacked)) size_ = static_cast<std::uint16_t>(1 << size_ / 4);
    const auto poison = input_.take<std::uint8_t>();
    write(MmioRegister::kStatus, kStatusAcknowledge);
    write(MmioRegister::kStatus, kStatusAcknowledge | kStatusDriver);
    for (std::uint32_t half = 0; half < 2; ++half) {
      write(MmioRegister::kDriverFeaturesSel, half);
      write(MmioRegister::kDriverFeatures,
            static_cast<std::uint32_t>(negotiated_.bits() >> (32 * half)));
    }
    write(MmioRegister::kStatus, kNegotiated);
    check(status() == kNegotiated, "features that are offered are accepted");
    const auto map =
        number_queues(dialect_row(negotiated_dialect(options_.dialect, kDialectBit, negotiated_)),
                      negotiated_, options_.numbering);
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      check(device().has_queue(queue) == (map[queue] != nullptr), "the queues are as numbered");
      if (map[queue] != nullptr) set_up_queue(queue, *map[queue]);
    }
    transport_->write(kMmioConfig + kPoisonValueOffset, 4, poison % 4 == 0 ? poison : 0);
    write(MmioRegister::kStatus, kRunning);
    check(status() == kRunning, "a driver that keeps the rules gets a device that runs");
  }

  void set_up_queue(std::uint16_t queue, const QueueRow& row) {
    const QueueConfig config =
        driver_.make_ring(queue, size_, negotiated_.has(Feature::kRingPacked));
    rows_[queue] = row;
    write(MmioRegister::kQueueSel, queue);
    write(MmioRegister::kQueueSize, config.size);
    write(MmioRegister::kQueueDescLow, static_cast<std::uint32_t>(config.descriptor_table));
    write(MmioRegister::kQueueDriverLow, static_cast<std::uint32_t>(config.available_ring));
    write(MmioRegister::kQueueDeviceLow, static_cast<std::uint32_t>(config.used_ring));
    write(MmioRegister::kQueueReady, 1);
    check(read(MmioRegister::kQueueReady) == 1, "a ring that is right is taken");
    roles_[queue] = row.role;
  }

  // ---- what the driver does --------------------------------------------------------------------

  // One of the queues that are set up.
  std::optional<std::uint16_t> take_queue() {
    const auto queue = static_cast<std::uint16_t>(input_.take<std::uint8_t>() % kMaxBalloonQueues);
    if (!roles_[queue]) return std::nullopt;
    return queue;
  }

  Codec codec_of(std::uint16_t queue) const {
    const Codec codec = rows_[queue].codec.value_or(Codec::kPfnArray);
    const bool wide = options_.wide_pfns.value_or(!negotiated_.has(Feature::kMustTellHost));
    return codec == Codec::kPfnArray && wide ? Codec::kWidePfnArray : codec;
  }

  FuzzMessage take_message(QueueRole role, Codec codec, std::uint8_t shape) {
    if (role == QueueRole::kFreePageHint && (shape & 2) != 0) {
      FuzzMessage command;
      append_number(command.payload, device().hint_status().command_id + (shape >> 2 & 1), 4);
      return command;
    }
    return role == QueueRole::kStats || (shape & 1) != 0 ? take_bytes(input_)
                                                         : take_pages(input_, codec);
  }

  void post() {
    const auto queue = take_queue();
    const auto shape = input_.take<std::uint8_t>();
    if (!queue) return;
    const QueueRole role = *roles_[*queue];
    FuzzMessage message = take_message(role, codec_of(*queue), shape);
    if ((shape & 8) != 0) message.writable.push_back(take_buffer(input_));

    HandPieces pieces;
    const auto payload_at = driver_.place(message.payload);
    if (!payload_at) return;
    const std::size_t cut = (shape & 16) != 0 ? 1u + input_.take<std::uint8_t>() : ~std::size_t{0};
    for (std::size_t at = 0; at < message.payload.size();
         at += std::min(cut, message.payload.size() - at)) {
      pieces.push_back({*payload_at + at,
                        static_cast<std::uint32_t>(std::min(cut, message.payload.size() - at))});
    }
    // The same once more and again, for messages of more than a window.
    const std::size_t times = (shape & 32) != 0 ? 1u + input_.take<std::uint8_t>() % 16 : 1;
    const HandPieces once = pieces;
    const auto payload = message.payload;
    for (std::size_t i = 1; i < times; ++i) {
      pieces.insert(pieces.end(), once.begin(), once.end());
      message.payload.insert(message.payload.end(), payload.begin(), payload.end());
    }
    const auto flaw = (shape & 64) != 0 ? input_.take<std::uint8_t>() : std::uint8_t{0};
    if ((flaw & 1) != 0) {  // a piece that cannot be read
      pieces.push_back({96 * kPageSize - 1, 2});
      message.payload.resize(message.payload.size() + 2);
    }
    for (const GuestBuffer& buffer : message.writable) {
      pieces.push_back({buffer.address, buffer.length, true});
    }
    if ((flaw & 2) != 0 && !message.writable.empty()) pieces.push_back({*payload_at, 1, false});
    if (pieces.empty()) pieces.push_back({*payload_at, 0, (flaw & 4) != 0});
    send(*queue, message, pieces, (shape & 128) != 0, (flaw & 1) == 0);
  }

  // Whether a device takes such a chain apart, or refuses it as a whole.
  bool is_well_formed(const HandPieces& pieces, bool indirect) const {
    std::uint64_t bytes = 0;
    bool writable = false;
    for (const auto& piece : pieces) {
      bytes += piece.length;
      if (writable && !piece.writable) return false;
      writable = piece.writable;
    }
    return bytes <= std::uint64_t{1} << 32 && pieces.size() <= size_ &&
           (!indirect || negotiated_.has(Feature::kIndirectDesc));
  }

  void send(std::uint16_t queue, const FuzzMessage& message, const HandPieces& pieces,
            bool indirect, bool readable) {
    std::optional<std::uint64_t> table;
    if (indirect) {
      table = driver_.place_table(pieces.size());
      if (!table) return;
    }
    SentMessage sent;
    const auto id = driver_.offer(queue, pieces, table);
    if (!id) return;
    sent.role = *roles_[queue];
    sent.id = *id;
    sent.descriptors = static_cast<std::uint16_t>(table ? 1 : pieces.size());
    // A turn that does nothing of all that is not explained.
    sent.work = 300 + 4 * message.payload.size() + 2 * pieces.size();
    if (rows_[queue].codec && is_well_formed(pieces, indirect)) {
      std::vector<GuestBuffer> writable;
      for (const auto& piece : pieces) {
        if (piece.writable) writable.push_back({piece.address, piece.length});
      }
      const auto named = decode_naively(codec_of(queue), message.payload, writable);
      for (const PageRange& range : named.pages) watched().add(range, sent.most);
      if (readable) sent.certain = sent.most;
    }
    model_.sent(queue, sent);
  }

  void collect(std::uint16_t queue) {
    for (const auto& used : driver_.take_returned(queue)) {
      const SentMessage message = model_.answered(queue, used.id, used.length);
      driver_.reclaim(queue, message.id, message.descriptors);
    }
  }

  bool turn(std::uint16_t queue, bool watching) {
    const auto poison = transport_->read(kMmioConfig + kPoisonValueOffset, 4);
    if (inhibited_ == 0) watched().allow(model_.while_serving(*roles_[queue], poison != 0));
    const bool more = watching ? device().poll(queue) : device().process(queue);
    watched().allow({});
    collect(queue);
    return more;
  }
  void serve(std::uint16_t queue) {
    std::uint64_t turns = 16;
    for (const SentMessage& message : model_.of(queue)) turns += message.work;
    while (turn(queue, false)) check(turns-- != 0, "work comes to an end");
  }

  void reset() {
    write(MmioRegister::kStatus, 0);
    check(status() == 0, "a reset is done when it returns");
    check(device().ballooned_pages() == 0, "a reset empties the ledger");
    check(device().metrics().owed_bytes == 0, "a reset leaves nothing owed");
    set_up();
  }

  void reset_queue() {
    const auto queue = take_queue();
    if (!queue) return;
    write(MmioRegister::kQueueSel, *queue);
    write(MmioRegister::kQueueReset, 1);
    check(read(MmioRegister::kQueueReset) == 0 && read(MmioRegister::kQueueReady) == 0,
          "a queue is reset when the write returns");
    model_.forget(*queue);
    if (negotiated_.has(Feature::kRingReset)) {
      set_up_queue(*queue, rows_[*queue]);
    } else {
      roles_[*queue].reset();
    }
  }

  // ---- what the embedder does ------------------------------------------------------------------

  // Another device goes on where this one stood; the driver does not notice.
  void move() {
    while (inhibited_ != 0) resume();
    const std::uint8_t before = status();
    const std::uint64_t ballooned = device().ballooned_pages();
    // What is owed may be discarded on the way.
    watched().allow(model_.put_off());
    const auto state = transport_->save();
    auto other = make_transport();
    check(other->restore(state).has_value(), "a state that was saved is restored");
    watched().allow({});
    transport_ = std::move(other);
    check(status() == before && device().ballooned_pages() == ballooned,
          "a restored device is as the saved one was");
  }
  void take_hints(std::span<const PageRange> pages) {
    const WatchedPages hinted = watched().handed_over(pages);
    check((hinted & ~model_.waiting(QueueRole::kFreePageHint)).none(),
          "hints are those of the driver");
  }

  void run_what_is_owed(std::uint8_t how) {
    if (inhibited_ == 0) watched().allow(model_.put_off());
    if (how % 2 == 0) {
      (void)device().run_owed_discards();
    } else {
      (void)device().drain();
    }
    watched().allow({});
  }
  void inhibit_or_resume(std::uint8_t how) {
    if (how % 2 == 0 && inhibited_ < 3) {
      device().inhibit_discards();
      ++inhibited_;
    } else if (inhibited_ != 0) {
      resume();
    }
  }
  void resume() {
    if (--inhibited_ == 0) watched().allow(model_.put_off());
    device().resume_discards();
    watched().allow({});
  }
  void ask_for_hints(std::uint8_t how) {
    if (how % 3 == 0) (void)device().start_hints();
    if (how % 3 == 1) device().stop_hints();
    if (how % 3 == 2) device().finish_hints();
  }
  void ask_for_stats(std::uint8_t how) {
    now_ += nanoseconds(input_.take<std::uint8_t>());
    if (how % 4 == 0) (void)device().request_stats(nanoseconds(50));
    if (how % 4 == 1) device().set_stats_interval(nanoseconds(how));
    if (how % 4 == 2) (void)device().stats();
    if (how % 4 == 3) (void)device().tick();
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      if (roles_[queue] == QueueRole::kStats) collect(queue);
    }
  }

  void operate() {
    const auto operation = input_.take<std::uint8_t>();
    const auto how = static_cast<std::uint8_t>(operation / 16);
    switch (operation % 16) {
      default:
        return post();
      case 5:
        if (const auto queue = take_queue()) turn(*queue, how % 2 == 0);
        return;
      case 6:
      case 7:
        if (const auto queue = take_queue()) serve(*queue);
        return;
      case 8:
        if (how == 0) return reset();
        return how % 4 == 1 ? move() : reset_queue();
      case 9:
        (void)device().set_target_pages(input_.take<std::uint16_t>() % 512);
        return;
      case 10:
        return inhibit_or_resume(how);
      case 11:
        return run_what_is_owed(how);
      case 12:
        return ask_for_hints(how);
      case 13:
        return ask_for_stats(how);
      case 14:
        transport_->write(kMmioConfig + input_.take<std::uint8_t>() % 20, how % 9,
                          input_.take<std::uint64_t>());
        return;
      case 15:
        return watched().refuse(how);
    }
  }

  // ---- what must hold --------------------------------------------------------------------------

  void check_metrics() {
    const BalloonMetrics m = device().metrics();
    check(m.inflated_bytes == m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes,
          "inflated = freed + owed + forgone + cancelled");
    check(m.freed_bytes + m.reported_freed_bytes <= watched().taken_bytes(),
          "no more is said to be freed than the kernel took");
    check((status() & kStatusNeedsReset) == 0, "a driver that keeps the rules breaks no ring");
  }

  void check_balloon() {
    const WatchedPages most = model_.most();
    const WatchedPages certain = model_.certain();
    std::uint64_t count = 0;
    for (std::size_t page = 0; page < kWatchedPages; ++page) {
      const bool ballooned = device().is_ballooned(watched().pfn_of(page));
      check(!ballooned || most[page], "a page in the balloon was inflated");
      check(ballooned || !certain[page], "an inflated page is in the balloon");
      count += ballooned ? 1 : 0;
    }
    check(device().ballooned_pages() == count, "the pages in the balloon are counted");
  }

  void finish() {
    watched().refuse(0);
    while (inhibited_ != 0) resume();
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      if (!roles_[queue]) continue;
      serve(queue);
      const std::size_t left = model_.of(queue).size();
      if (*roles_[queue] != QueueRole::kStats) {
        check(left == 0, "every chain comes back");
      } else if (!negotiated_.has(Feature::kInOrder)) {  // in order, some may wait behind it
        check(left <= 1, "every chain but the statistics buffer comes back");
      }
    }
    run_what_is_owed(1);
    check_metrics();
    check_balloon();
    watched().check_values();
    reset();
    check_metrics();
  }

  FuzzInput& input_;
  nanoseconds now_{0};
  BalloonOptions options_;
  DiscardStrategy strategy_ = DiscardStrategy::kPerPage;
  std::unique_ptr<MmioTransport> transport_;
  FuzzDriver driver_;
  ChangeModel model_;
  Features negotiated_;
  std::uint16_t size_ = 0;
  std::array<std::optional<QueueRole>, kMaxBalloonQueues> roles_;  // of those that are set up
  std::array<QueueRow, kMaxBalloonQueues> rows_;
  int inhibited_ = 0;
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Session(input).run();
  return 0;
}
