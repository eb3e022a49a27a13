// SPDX-License-Identifier: MIT
// Any messages on the queues for requests to the guest, while the host asks and stops asking and
// the device moves to another one.
//
// Nothing is ever discarded; pages are handed over only in a round, and only those that a message
// on its way names; the device writes a whole request into a buffer that was posted for one, and
// nowhere else; every chain comes back, but for the few buffers that are held.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/fuzz_driver.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/fuzz_messages.h"
#include "fuzz/naive_decoder.h"
#include "fuzz/watched_memory.h"
#include "vballoon/balloon_device.h"
#include "wire/dialect.h"
#include "wire/guest_request.h"

namespace vballoon::fuzz {
namespace {

using testing::HandPieces;

constexpr std::size_t kMostOperations = 64;
constexpr std::size_t kMostHeld = 4;
constexpr int kMostTurns = 20'000;
constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input), driver_(watched().memory()) {
    watched().restart();
    const auto kind = input.take<std::uint8_t>();
    packed_ = (kind & 1) != 0;
    small_budget_ = (kind & 2) != 0;
    dialect_ = (kind & 4) != 0 ? Dialect::kScatterGather : Dialect::kPageBitmap;
    size_ = static_cast<std::uint16_t>(1 << (kind >> 4 & 3) << 1);
    device_ = make_device();
    set_up();
  }

  void run() {
    for (std::size_t i = 0; i < kMostOperations && !input_.done(); ++i) operate();
    finish();
  }

 private:
  struct Sent {
    std::size_t buffer_bytes = 0;  // of one that may be written to
    std::uint16_t descriptors = 0;
    WatchedPages pages = {};
  };

  static WatchedMemory& watched() {
    static WatchedMemory memory;
    return memory;
  }

  std::unique_ptr<BalloonDevice> make_device() {
    BalloonOptions options;
    options.dialect = dialect_;
    options.guest_requests = true;
    options.features = {Feature::kMustTellHost, Feature::kStatsVq, Feature::kRingPacked};
    if (small_budget_) options.budget = {3, 64};
    options.on_free_page_hints = [this](std::span<const PageRange> pages) { take_hints(pages); };
    auto made = BalloonDevice::create(
        watched().memory(),
        std::make_unique<WatchedDiscarder>(watched(), DiscardStrategy::kVectored),
        std::move(options));
    check(made.has_value(), "the options make a device");
    return std::move(*made);
  }

  void set_up() {
    Features accepted = device_->offered_features();
    if (!packed_) accepted = accepted.without(Feature::kRingPacked);
    device_->write_status(kStatusAcknowledge | kStatusDriver);
    device_->write_features(accepted);
    device_->write_status(kNegotiated);
    rows_ = number_queues(dialect_row(dialect_), Features{Feature::kStatsVq},
                          QueueNumbering::kDense, true);
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      if (rows_[queue] == nullptr) continue;
      check(device_->set_queue(queue, driver_.make_ring(queue, size_, packed_)).has_value(),
            "a ring that is right is taken");
    }
    device_->write_status(kNegotiated | kStatusDriverOk);
  }

  // ---- what the driver does --------------------------------------------------------------------

  // One of the queues for requests.
  std::uint16_t take_queue() {
    const unsigned second =
        dialect_ == Dialect::kPageBitmap ? 0U : input_.take<std::uint8_t>() % 2U;
    return static_cast<std::uint16_t>(3 + second);
  }

  // With the header that the answer should have, if that is wanted.
  void head_answer(std::vector<std::byte>& payload, std::uint8_t shape) {
    if (payload.size() < kAnswerHeaderBytes) return;
    const bool drop = (shape & 8) != 0;
    const auto id = drop ? shape % 4u : device_->hint_status().command_id + (shape >> 7);
    write_answer_header(
        std::span(payload).first<kAnswerHeaderBytes>(),
        {.command = static_cast<std::uint8_t>(drop ? RequestCommand::kDropCache
                                                   : RequestCommand::kUnusedPages),
         .last = (shape & 16) != 0,
         .id = static_cast<std::uint16_t>(id == 0 ? round_ : id),
         .data_bytes = static_cast<std::uint32_t>(payload.size() - kAnswerHeaderBytes)});
  }

  void post_buffer(std::uint16_t queue, std::uint8_t shape) {
    const auto bytes = static_cast<std::uint32_t>((shape & 16) != 0 ? shape % 24 : kRequestBytes);
    std::uint64_t address = 100 * kPageSize;  // in a hole
    if ((shape & 32) == 0) {
      const auto placed = driver_.place(std::vector<std::byte>(bytes));
      if (!placed) return;
      address = *placed;
    }
    send(queue, {{address, bytes, true}}, {.buffer_bytes = bytes});
  }

  void post() {
    const std::uint16_t queue = take_queue();
    const auto shape = input_.take<std::uint8_t>();
    const QueueRow& row = *rows_[queue];
    if ((shape & 3) == 0) return post_buffer(queue, shape);
    const Codec codec = row.codec.value_or(Codec::kPageBitmap);
    FuzzMessage message = (shape & 3) == 1 ? take_bytes(input_) : take_pages(input_, codec);
    if (row.role == QueueRole::kRequest && (shape & 4) != 0) head_answer(message.payload, shape);
    HandPieces pieces;
    if (row.role == QueueRole::kControl) {
      message.payload.resize((shape & 16) != 0 ? 8 : shape % 16);
      if ((shape & 32) != 0) std::ranges::fill(message.payload, std::byte{0});
    }
    if (!message.payload.empty()) {
      const auto placed = driver_.place(message.payload);
      if (!placed) return;
      pieces.push_back({*placed, static_cast<std::uint32_t>(message.payload.size())});
    }
    for (const GuestBuffer& buffer : message.writable) {
      pieces.push_back({buffer.address, buffer.length, true});
    }
    if (pieces.empty()) return;
    Sent sent;
    if (row.codec) {
      const auto named = decode_naively(codec, message.payload, message.writable);
      for (const PageRange& range : named.pages) watched().add(range, sent.pages);
    }
    send(queue, pieces, sent);
  }

  void send(std::uint16_t queue, const HandPieces& pieces, Sent sent) {
    const auto id = driver_.offer(queue, pieces, std::nullopt);
    if (!id) return;
    sent.descriptors = static_cast<std::uint16_t>(pieces.size());
    waiting_.at(queue)[*id] = sent;
  }

  void collect() {
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      if (rows_[queue] == nullptr) continue;
      for (const auto& used : driver_.take_returned(queue)) {
        const auto found = waiting_.at(queue).find(static_cast<std::uint16_t>(used.id));
        check(found != waiting_.at(queue).end(), "a chain comes back once, and was sent before");
        const std::size_t request =
            rows_[queue]->role == QueueRole::kControl ? kControlBytes : kRequestBytes;
        check(used.length == 0 || (used.length == request && found->second.buffer_bytes >= request),
              "a device writes a whole request into a buffer for one, or nothing");
        driver_.reclaim(queue, found->first, found->second.descriptors);
        waiting_.at(queue).erase(found);
      }
    }
  }

  void serve(std::uint16_t queue) {
    int turns = 0;
    while (device_->process(queue)) {
      collect();
      check(++turns < kMostTurns, "work comes to an end");
    }
    collect();
  }

  // ---- what the host does ----------------------------------------------------------------------

  void take_hints(std::span<const PageRange> pages) {
    const WatchedPages hinted = watched().handed_over(pages);
    WatchedPages named;
    for (const auto& queue : waiting_) {
      for (const auto& [id, sent] : queue) named |= sent.pages;
    }
    check((hinted & ~named).none(), "hints are those of the driver");
  }

  void move() {
    const auto state = device_->save();
    auto other = make_device();
    check(other->restore(state).has_value(), "a state that was saved is restored");
    device_ = std::move(other);
    check(device_->hint_status().state == HintState::kStopped, "a round is not saved");
  }

  void ask(std::uint8_t how) {
    if (how % 4 == 0) {
      if (const auto id = device_->start_hints()) round_ = *id;
    }
    if (how % 4 == 1) device_->stop_hints();
    if (how % 4 == 2) device_->finish_hints();
    if (how % 4 == 3) (void)device_->request_cache_drop(static_cast<CacheKinds>(how / 4 % 4));
  }

  void operate() {
    const auto operation = input_.take<std::uint8_t>();
    const auto how = static_cast<std::uint8_t>(operation / 8);
    switch (operation % 8) {
      default:
        return post();
      case 4:
        (void)device_->poll(take_queue());
        return collect();
      case 5:
        return serve(take_queue());
      case 6:
        return ask(how);
      case 7:
        if (how % 4 == 0) return move();
        return serve(3);
    }
  }

  void finish() {
    for (std::uint16_t queue = 2; queue < kMaxBalloonQueues; ++queue) {
      if (rows_[queue] == nullptr) continue;
      serve(queue);
      const bool holds = rows_[queue]->role != QueueRole::kFreePages;
      check(waiting_.at(queue).size() <= (holds ? kMostHeld : 0), "chains come back");
    }
    check((device_->read_status() & kStatusNeedsReset) == 0,
          "a driver that keeps the rules of rings breaks none");
    watched().check_values();
    device_->write_status(0);
    check(!device_->cache_drop_pending(), "a reset forgets what was asked");
  }

  FuzzInput& input_;
  FuzzDriver driver_;
  bool packed_ = false;
  bool small_budget_ = false;
  Dialect dialect_ = Dialect::kPageBitmap;
  std::uint16_t size_ = 0;
  std::unique_ptr<BalloonDevice> device_;
  QueueMap rows_{};
  std::array<std::map<std::uint16_t, Sent>, kMaxBalloonQueues> waiting_;
  std::uint32_t round_ = 0;  // the id of the last one
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Session(input).run();
  return 0;
}
