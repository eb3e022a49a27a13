// SPDX-License-Identifier: MIT
// A device on a ring in raw memory, which changes between its steps.
//
// Input: what was negotiated, the size, where the parts lie, where the device begins; then what
// stands in memory at first; the rest are steps of the device and of the driver. The oracle: a
// model of the ring says which entry is used next and with what, only the parts that are the
// device's to write change, reads give what stands in memory, and it all comes to an end.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/guarded_memory.h"
#include "fuzz/ring_model.h"
#include "vballoon/device_queue.h"

namespace vballoon::fuzz {
namespace {

constexpr std::uint64_t kLowBytes = 0x2000;
constexpr std::uint64_t kHigh = 0x3000;  // behind a hole
constexpr std::uint64_t kHighBytes = 0x1000;
constexpr std::uint64_t kTable = 0x1000;  // where indirect tables are written
constexpr std::size_t kMostImageBytes = 0x600;
constexpr std::size_t kMostSteps = 500;

// Addresses of a driver whose platform translates them begin here. It does so in pieces, and
// forbids to write to some.
constexpr std::uint64_t kPlatform = std::uint64_t{1} << 32;
constexpr std::uint64_t kPlatformPiece = 0x800;
constexpr std::uint64_t kReadOnly = 0x1800;

std::optional<TranslatedPiece> translate(std::uint64_t address, std::uint64_t length, bool write) {
  if (address < kPlatform) return std::nullopt;
  const std::uint64_t guest = address - kPlatform;
  if (write && guest / kPlatformPiece == kReadOnly / kPlatformPiece) return std::nullopt;
  return TranslatedPiece{guest, std::min(length, kPlatformPiece - guest % kPlatformPiece)};
}

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  [[nodiscard]] bool overlaps(const Extent& other) const {
    return begin < other.begin + other.bytes && other.begin < begin + bytes;
  }
};

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input) {
    for (const MemoryRegion& region : memory().regions()) {
      std::memset(region.host, 0, region.bytes);
    }
    take_config();
    const auto image = input_.take_bytes(input_.take<std::uint16_t>() % kMostImageBytes);
    check(memory().write(0, image), "the image fits");
  }

  void run() {
    if (!start(position_)) return;
    for (std::size_t i = 0; i < kMostSteps && !input_.done(); ++i) step();
    drain();
    go_on_elsewhere();
  }

 private:
  // A chain that was taken and does not stand on the ring as used.
  struct Taken {
    std::uint64_t number = 0;
    RingItem item;
    std::optional<DescriptorChain> chain;  // none: answered
    std::uint32_t written = 0;
  };

  static const std::shared_ptr<const GuestMemory>& shared_memory() {
    static const auto memory = make_guarded_memory({{0, kLowBytes}, {kHigh, kHighBytes}});
    return memory;
  }
  static const GuestMemory& memory() { return *shared_memory(); }

  // ---- set-up

  void take_config() {
    const auto flags = input_.take<std::uint8_t>();
    const auto size = input_.take<std::uint8_t>();
    config_.packed = (flags & 1) != 0;
    config_.event_index = (flags & 2) != 0;
    config_.indirect = (flags & 4) != 0;
    config_.in_order = (flags & 8) != 0;
    platform_ = (flags & 16) != 0 ? kPlatform : 0;
    config_.size = static_cast<std::uint16_t>(config_.packed ? 1 + size % 16 : 1 << size % 5);
    config_.descriptor_table = 0;
    config_.available_ring = 0x400;
    config_.used_ring = 0x600;
    if ((flags & 32) != 0) {
      config_.descriptor_table = input_.take<std::uint16_t>() / 16 * 16;
      config_.available_ring = input_.take<std::uint16_t>() / 4 * 4;
      config_.used_ring = input_.take<std::uint16_t>() / 4 * 4;
    }
    if ((flags & 64) != 0) {
      const auto places = input_.take<std::uint32_t>();
      position_ = {static_cast<std::uint16_t>(places), static_cast<std::uint16_t>(places >> 16),
                   input_.take_bool(), input_.take_bool()};
    }
    if ((flags & 128) != 0) config_.size = input_.take<std::uint16_t>();
  }

  bool start(const QueuePosition& position) {
    QueueConfig config = config_;
    config.descriptor_table += platform_;
    config.available_ring += platform_;
    config.used_ring += platform_;
    const auto started =
        queue_.start(shared_memory(), config, position,
                     platform_ != 0 ? AddressTranslator(translate) : AddressTranslator());
    check(started.has_value() == queue_.ready(), "a queue that started is ready");
    if (!started) return false;
    model_.emplace(shared_memory(), config_, position);
    const std::uint64_t size = config_.size;
    const Extent table{config_.descriptor_table, 16 * size};
    const Extent driver{config_.available_ring, config_.packed ? 4 : 6 + 2 * size};
    const Extent device{config_.used_ring, config_.packed ? 4 : 6 + 8 * size};
    writable_ = {device};
    if (config_.packed) writable_.push_back(table);
    // Where they overlap the device reads what it wrote; it must only come to an end then.
    overlapping_ = table.overlaps(driver) || table.overlaps(device) || driver.overlaps(device);
    in_flight_before_ = position != QueuePosition{} || config_.size == 0;
    numbers_ = 0;
    return true;
  }

  // ---- what the device does

  // Runs a step of the device; nothing but its own parts of the ring may change by it.
  template <typename Step>
  auto device(Step step) {
    std::array<std::byte, kLowBytes + kHighBytes> before;
    copy_memory(before);
    auto result = step();
    std::array<std::byte, kLowBytes + kHighBytes> after;
    copy_memory(after);
    for (const Extent& extent : writable_) {
      const std::uint64_t at =
          extent.begin < kHigh ? extent.begin : extent.begin - kHigh + kLowBytes;
      std::memcpy(before.data() + at, after.data() + at, extent.bytes);
    }
    check(before == after, "only the device's parts of a ring change");
    return result;
  }
  static void copy_memory(std::array<std::byte, kLowBytes + kHighBytes>& out) {
    std::memcpy(out.data(), memory().regions()[0].host, kLowBytes);
    std::memcpy(out.data() + kLowBytes, memory().regions()[1].host, kHighBytes);
  }

  // True when something was taken.
  bool pop() {
    const bool was_ready = queue_.ready();
    const auto item = overlapping_ ? std::nullopt : model_->peek();
    auto popped = device([&] { return queue_.pop(); });
    if (!popped) {
      if (!was_ready) check(popped.error().code == Errc::kQueueNotReady, "a broken queue says so");
      if (!queue_.ready()) return false;
      take(item, std::nullopt);
      return true;
    }
    check(was_ready, "a broken queue gives nothing");
    if (!*popped) {
      const bool must_give =
          item && taken_.empty() && !model_->unpublished() && !in_flight_before_ && !overlapping_;
      check(!must_give, "with none held a chain always fits");
      return false;
    }
    check_chain(**popped);
    take(item, std::move(**popped));
    return true;
  }

  void take(const std::optional<RingItem>& item, std::optional<DescriptorChain> chain) {
    check(item || overlapping_, "what was taken was available");
    const RingItem taken = item.value_or(RingItem{});
    model_->take(taken);
    taken_.push_back({++numbers_, taken, std::move(chain)});
    settle();
  }

  void check_chain(const DescriptorChain& chain) const {
    check(chain.readable().size() + chain.writable().size() <= config_.size,
          "a chain has no more buffers than the queue has entries");
    std::uint64_t readable = 0;
    std::uint64_t all = 0;
    for (const GuestBuffer& buffer : chain.readable()) readable += buffer.length;
    for (const GuestBuffer& buffer : chain.writable()) all += buffer.length;
    check(chain.readable_bytes() == readable, "the readable bytes are those of the buffers");
    check(readable + all <= std::uint64_t{1} << 32, "a chain has no more than 2^32 bytes");
  }

  // What was answered stands on the used ring: at once, or in order, behind those before it.
  void settle() {
    if (overlapping_) {
      std::erase_if(taken_, [](const Taken& taken) { return !taken.chain; });
      return;
    }
    for (std::size_t i = 0; i < taken_.size();) {
      if (taken_[i].chain) {
        if (config_.in_order) return;
        ++i;
        continue;
      }
      model_->put(taken_[i].item, taken_[i].written);
      taken_.erase(taken_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  // One of the chains that are held, if any.
  Taken* any_held() {
    const auto which = input_.take<std::uint8_t>();
    std::vector<Taken*> held;
    for (Taken& taken : taken_) {
      if (taken.chain) held.push_back(&taken);
    }
    return held.empty() ? nullptr : held[which % held.size()];
  }

  void complete(std::uint32_t written, bool drop) {
    Taken* const taken = any_held();
    if (taken == nullptr) return;
    taken->written = drop ? 0 : written;
    device([&] {
      if (!drop) taken->chain->complete(written);
      taken->chain.reset();
      return true;
    });
    settle();
  }

  void release() {
    Taken* const taken = any_held();
    if (taken == nullptr) return;
    const bool last = taken->number == numbers_;
    const bool released = device([&] { return taken->chain->release(); });
    check(released == last, "the chain taken last can be put back, and no other");
    if (!released) return;
    model_->untake(taken->item);
    --numbers_;
    taken_.erase(taken_.begin() + (taken - taken_.data()));
    settle();
  }

  void publish() {
    const bool interrupts = device([&] { return queue_.publish(); });
    if (!overlapping_) model_->publish(interrupts);
  }

  // Reads some bytes of a chain and looks them up once more.
  void read() {
    Taken* const taken = any_held();
    const auto offset_bits = input_.take<std::uint16_t>();
    std::array<std::byte, 64> out{};
    if (taken == nullptr || taken->chain->readable_bytes() == 0) return;
    const std::uint64_t offset = offset_bits % taken->chain->readable_bytes();
    const auto bytes = static_cast<std::size_t>(
        std::min<std::uint64_t>(out.size(), taken->chain->readable_bytes() - offset));
    const bool done =
        device([&] { return taken->chain->read(offset, std::span(out).first(bytes)).has_value(); });
    std::uint64_t at = 0;
    std::size_t seen = 0;
    for (const GuestBuffer& buffer : taken->chain->readable()) {
      for (std::uint64_t i = offset > at ? offset - at : 0; i < buffer.length && seen < bytes;
           ++i) {
        std::byte byte{};
        const bool there = buffer.address + i >= buffer.address &&
                           memory().read(buffer.address + i, std::span(&byte, 1));
        check(there || !done, "what is not there cannot be read");
        if (!there) return;
        check(!done || out[seen] == byte, "a read gives what stands in memory");
        ++seen;
      }
      at += buffer.length;
      if (seen == bytes) return;
    }
  }

  void restart() {
    device([&] {
      queue_.reset();
      taken_.clear();  // chains that lost their meaning
      return true;
    });
    check(start({}), "a queue that started once starts again");
  }

  // ---- what the driver does

  void scribble() {
    const std::uint64_t address = input_.take<std::uint16_t>() % (kHigh + kHighBytes);
    const auto bytes = input_.take_bytes(input_.take<std::uint8_t>() % 17);
    (void)memory().write(address, bytes);
  }

  template <typename T>
  void put(std::uint64_t address, T value) {
    (void)memory().write(address, std::as_bytes(std::span(&value, 1)));
  }
  // A descriptor of either layout: the last two fields are flags and next, or id and flags.
  void put_descriptor(std::uint64_t at, std::uint16_t third, std::uint16_t fourth) {
    const auto place = input_.take<std::uint16_t>();
    const auto length = input_.take<std::uint16_t>();
    put<std::uint64_t>(at, place < 0xFF00 ? place + platform_ : ~std::uint64_t{0} - place % 256);
    put<std::uint32_t>(at + 8, length < 0xFF00 ? length : ~std::uint32_t{0} - length % 256);
    put(at + 12, third);
    put(at + 14, fourth);
  }
  void describe(std::uint64_t table, std::uint16_t entries) {
    const std::uint16_t index = input_.take<std::uint8_t>();
    const std::uint16_t flags = input_.take<std::uint8_t>();
    const std::uint16_t other = input_.take<std::uint8_t>();
    const std::uint64_t at = table + 16 * (index % entries);
    if (config_.packed) {
      put_descriptor(at, other, static_cast<std::uint16_t>(flags | (flags & 64) << 9));
    } else {
      put_descriptor(at, flags, other);
    }
  }
  // Makes the next entry available, as a driver does that knows the rules.
  void offer() {
    const std::uint16_t byte = input_.take<std::uint8_t>();
    if (config_.packed) {
      const std::uint64_t at = config_.descriptor_table + 16 * driver_index_;
      put_descriptor(at, byte / 16,
                     static_cast<std::uint16_t>((byte & 7) | (driver_wrap_ ? 0x80 : 0x8000)));
      driver_index_ = static_cast<std::uint16_t>(driver_index_ + 1);
      if (driver_index_ >= config_.size) {
        driver_index_ = 0;
        driver_wrap_ = !driver_wrap_;
      }
      return;
    }
    std::uint16_t index = 0;
    (void)memory().read(config_.available_ring + 2, std::as_writable_bytes(std::span(&index, 1)));
    put(config_.available_ring + 4 + 2 * (index % config_.size),
        static_cast<std::uint16_t>(byte % (config_.size + 1)));
    put(config_.available_ring + 2, static_cast<std::uint16_t>(index + 1));
  }

  // ---- steps

  void step() {
    switch (input_.take<std::uint8_t>() % 14) {
      case 0:
      case 1:
        pop();
        return;
      case 2:
        return complete(input_.take<std::uint8_t>(), false);
      case 3:
        return complete(0, true);
      case 4:
        return release();
      case 5:
        return publish();
      case 6:
        (void)device([&] { return queue_.enable_kicks(); });
        return;
      case 7:
        device([&] {
          queue_.disable_kicks();
          return true;
        });
        return;
      case 8:
        return read();
      case 9:
        return scribble();
      case 10:
        return describe(config_.descriptor_table, config_.size);
      case 11:
        return describe(kTable, 32);
      case 12:
        return offer();
      default:
        if (input_.take<std::uint8_t>() == 0) restart();
        return;
    }
  }

  void answer_all() {
    device([&] {
      for (Taken& taken : taken_) taken.chain.reset();
      return true;
    });
    settle();
    check(taken_.empty(), "every chain goes back");
  }

  // Nobody adds anything now: each entry can be taken once in this round and once in the next.
  void drain() {
    answer_all();
    publish();
    for (std::size_t pops = 0; pop(); ++pops) {
      answer_all();
      check(overlapping_ || pops < std::size_t{2} * config_.size, "a ring comes to an end");
      if (pops >= std::size_t{2} * config_.size) break;
    }
    publish();
  }

  void go_on_elsewhere() {
    if (!queue_.ready() || overlapping_) return;
    const QueuePosition position = queue_.position();
    const QueuePosition expected = model_->position();
    check(position.next_available == expected.next_available &&
              position.next_used == expected.next_used,
          "the device stands where the model does");
    queue_.reset();
    check(start(position), "from there another start goes on");
  }

  FuzzInput& input_;
  QueueConfig config_;  // guest-physical
  QueuePosition position_;
  std::uint64_t platform_ = 0;
  std::vector<Extent> writable_;
  bool overlapping_ = false;
  bool in_flight_before_ = false;
  std::optional<RingModel> model_;
  std::uint64_t numbers_ = 0;
  DeviceQueue queue_;
  std::vector<Taken> taken_;  // behind the queue: goes first
  std::uint16_t driver_index_ = 0;
  bool driver_wrap_ = true;
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Session(input).run();
  return 0;
}
