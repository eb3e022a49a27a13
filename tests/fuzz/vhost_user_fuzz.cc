// SPDX-License-Identifier: MIT
// Any messages of vhost-user with any descriptors, rings and payloads of raw bytes in the memory
// that they share, and a back end that works between them. The real kernel takes away what comes of
// it.
//
// Input: the options of the device; then steps of a front end. The oracle: replies and messages of
// the back end have the form that front ends insist on, and there are no more of them than were
// asked for; the metrics add up; each dispatch ends (libFuzzer's -timeout); when the front end has
// gone no memory is held, and the next one, which keeps the rules, finds a device that works; at
// the end all descriptors are closed.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/shared_file.h"
#include "ring/hand_driver.h"
#include "transport/vhost_user_socket.h"
#include "vballoon/transport/vhost_user.h"
#include "wire/dialect.h"

extern "C" const char* __asan_default_options() { return "quarantine_size_mb=1"; }

namespace vballoon::fuzz {
namespace {

namespace vhost = testing::vhost;
using testing::VhostUserSocket;
using vhost::bytes_of;

constexpr std::uint16_t kSize = 8;
constexpr std::size_t kMostSteps = 200;
constexpr int kMostDispatches = 50;

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input) {
    std::memset(file().bytes, 0, kFileBytes);
    BalloonOptions options;
    options.dialect = static_cast<Dialect>(input.take<std::uint8_t>() % all_dialects().size());
    options.dialect_bit = 50;
    options.features = {Feature::kMustTellHost, Feature::kStatsVq,       Feature::kFreePageHint,
                        Feature::kPagePoison,   Feature::kPageReporting, Feature::kIndirectDesc,
                        Feature::kEventIdx,     Feature::kRingPacked,    Feature::kInOrder};
    const auto more = input.take<std::uint8_t>();
    options.write_behind = (more & 1) != 0;
    options.numbering = (more & 2) != 0 ? QueueNumbering::kFixed : QueueNumbering::kDense;
    if ((more & 4) != 0) options.budget = {1, 1};
    options.discards_owed = [] {};
    options.on_free_page_hints = [](std::span<const PageRange>) {};
    options.clock = [this] { return std::chrono::nanoseconds(++now_); };
    auto made = VhostUserBackend::create(listener_.fd, make_kernel_discarder(), std::move(options));
    check(made.has_value(), "the options make a device");
    back_end_ = std::move(*made);
    connect();
  }

  void run() {
    for (std::size_t i = 0; i < kMostSteps && !input_.done(); ++i) {
      step();
      check_metrics();
    }
    hang_up();
    start_anew();
  }

 private:
  BalloonDevice& device() { return back_end_->device(); }

  void check_metrics() {
    const BalloonMetrics m = device().metrics();
    check(m.inflated_bytes == m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes,
          "inflated = freed + owed + forgone + cancelled");
    check(device().ballooned_pages() <= device().memory_bytes() / kPageSize,
          "the balloon is no larger than the guest");
  }

  // ---- the connection

  void connect() {
    socket_ = listener_.connect();
    asked_ = 0;
    fcntl(socket_.fd(), F_SETFL, O_NONBLOCK);
    received_.clear();
    raw_ = false;
  }
  // As many turns as anything needs here; a ring that the device writes into itself may go on.
  void work() {
    for (int i = 0; i < kMostDispatches; ++i) {
      pollfd wait{.fd = back_end_->fd(), .events = POLLIN, .revents = 0};
      if (poll(&wait, 1, 0) <= 0) break;
      back_end_->dispatch();
    }
  }
  void forget_descriptors() {
    pipes_.clear();
    events_.clear();
    kicks_.clear();
  }
  void hang_up() {
    socket_.close();
    forget_descriptors();
    work();
    check(device().memory_bytes() == 0, "without a front end there is no memory");
    check(device().ballooned_pages() == 0, "and nothing in the balloon");
    check(device().read_status() == 0, "the device was reset");
  }

  void send(std::uint32_t request, const vhost::Bytes& payload, std::span<const int> fds = {},
            std::uint32_t flags = vhost::kVersion) {
    ++asked_;
    (void)socket_.send(request, payload, fds, flags);
  }
  // What the back end has said until now.
  void listen() {
    std::array<std::byte, 4096> bytes;
    for (;;) {
      const ssize_t got = recv(socket_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (got <= 0) break;
      received_.insert(received_.end(), bytes.begin(), bytes.begin() + got);
    }
    std::size_t at = 0;
    while (received_.size() - at >= 12) {
      std::array<std::uint32_t, 3> header{};
      std::memcpy(header.data(), received_.data() + at, sizeof(header));
      check(header[1] == 5, "a reply has the flags of a reply and no others");
      check(header[2] <= 12 + 256, "a reply is not longer than any can be");
      check(asked_-- > 0 || raw_, "there are no more replies than messages");
      if (received_.size() - at - 12 < header[2]) {
        check(false, "a reply is whole");
      }
      at += 12 + header[2];
    }
    check(at == received_.size(), "a reply is whole");
    received_.clear();
  }
  // What came over its own channel; that is no channel if it was handed over for something else.
  void listen_to_the_back_end(const Pipe& pipe) {
    while (const auto message = testing::read_message(pipe.read_end.get())) {
      check(message->flags == 1, "a message of the back end has the flags 1");
      check((message->request == vhost::kConfigChange && message->payload.empty()) ||
                (message->request == vhost::kVringCall && message->payload.size() == 8),
            "a message of the back end is one that is known");
    }
  }

  // ---- messages

  int some_descriptor() {
    if (pipes_.size() + events_.size() > 100) return file().fd.get();
    switch (input_.take<std::uint8_t>() % 8) {
      case 0:
      case 1:
        return file().fd.get();
      case 2:
      case 3:
        events_.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        return events_.back().get();
      case 4:
        return pipes_.emplace_back().write_end.get();
      case 5:
        return pipes_.emplace_back().read_end.get();
      case 6: {  // of which nobody has the other end
        Pipe pipe;
        events_.push_back(std::move(pipe.write_end));
        return events_.back().get();
      }
      default:
        return events_.empty() ? file().fd.get() : events_.front().get();
    }
  }
  std::vector<int> some_descriptors(std::size_t most) {
    std::vector<int> fds;
    for (std::size_t i = 0; i < most; ++i) fds.push_back(some_descriptor());
    return fds;
  }
  std::uint32_t some_ring() { return input_.take<std::uint8_t>() % (kMaxBalloonQueues + 1); }
  std::uint64_t some_user_address() {
    return kRegions[input_.take<std::uint8_t>() % 2].user + input_.take<std::uint16_t>();
  }
  Region some_region() {
    const auto choice = input_.take<std::uint8_t>();
    if (choice < 0x80) return kRegions[choice % kRegions.size()];
    const auto pages = [this] { return input_.take<std::uint8_t>() % 40 * kPageSize; };
    return {pages(), pages(), kRegions[choice % 2].user + pages(), pages()};
  }

  // A message of this kind as it should be, of small numbers.
  void send_some_message() {
    constexpr std::array<std::uint32_t, 26> kRequests{1,  2,  3,  4,  5,  8,  9,  10, 11,
                                                      12, 13, 14, 15, 16, 17, 18, 21, 24,
                                                      25, 34, 35, 36, 37, 38, 39, 40};
    const std::uint32_t request = kRequests[input_.take<std::uint8_t>() % kRequests.size()];
    const auto style = input_.take<std::uint8_t>();
    const std::uint32_t flags = vhost::kVersion | ((style & 1) != 0 ? vhost::kNeedReply : 0U);
    std::vector<int> fds;
    vhost::Bytes payload;
    switch (request) {
      case vhost::kSetFeatures:
        payload = vhost::u64(input_.take<std::uint64_t>() & offered());
        break;
      case vhost::kSetProtocolFeatures:
        payload = vhost::u64(input_.take<std::uint32_t>() & vhost::kEveryProtocolFeature);
        break;
      case vhost::kSetMemTable: {
        const std::uint32_t count = input_.take<std::uint8_t>() % 4;
        payload = bytes_of(count, 0U);
        for (std::uint32_t i = 0; i < count; ++i) {
          payload = vhost::joined(payload, describe(some_region()));
          fds.push_back(file().fd.get());
        }
        break;
      }
      case vhost::kSetVringNum:
      case vhost::kSetVringBase:
      case vhost::kGetVringBase:
      case vhost::kSetVringEnable:
      case vhost::kVringKick:
        payload = vhost::state(some_ring(), input_.take<std::uint16_t>());
        break;
      case vhost::kSetVringAddr:
        payload = bytes_of(some_ring(), 0U, some_user_address(), some_user_address(),
                           some_user_address(), std::uint64_t{0});
        break;
      case vhost::kSetVringKick:
      case vhost::kSetVringCall:
      case vhost::kSetVringErr:
        payload = vhost::u64(some_ring());
        fds.push_back(some_descriptor());
        break;
      case vhost::kSetBackendReqFd:
        fds.push_back(some_descriptor());
        break;
      case vhost::kGetConfig:
      case vhost::kSetConfig: {
        const std::uint32_t offset = input_.take<std::uint8_t>();
        const std::uint32_t size = input_.take<std::uint8_t>();
        payload = vhost::joined(bytes_of(offset, size, 0U), vhost::Bytes(size));
        break;
      }
      case vhost::kAddMemReg:
        fds.push_back(some_descriptor());
        [[fallthrough]];
      case vhost::kRemMemReg:
        payload = vhost::joined(vhost::u64(0), describe(some_region()));
        break;
      case vhost::kSetStatus:
        payload = vhost::u64(input_.take<std::uint8_t>());
        break;
      default:
        break;
    }
    // One in eight is not as it should be.
    if ((style & 0xE) == 0xE) {
      const auto bytes = input_.take_bytes(input_.take<std::uint8_t>());
      payload.assign(bytes.begin(), bytes.end());
    }
    if ((style & 0x70) == 0x70) fds = some_descriptors(input_.take<std::uint8_t>() % 12);
    send(request, payload, fds, flags);
  }
  std::uint64_t offered() {
    return device().offered_features().with_bit(vhost::kProtocolFeaturesBit).bits();
  }
  // What it means is not known, nor how many replies it has.
  void send_raw_bytes() {
    raw_ = true;
    const auto bytes = input_.take_bytes(input_.take<std::uint8_t>() % 64);
    (void)socket_.send_raw(bytes, some_descriptors(input_.take<std::uint8_t>() % 3));
  }

  // ---- a front end that keeps the rules

  static QueueConfig config_of(std::uint16_t queue, bool packed) {
    const std::uint64_t base = queue * kPageSize;
    return {.size = kSize,
            .descriptor_table = base,
            .available_ring = base + 0x100,
            .used_ring = base + 0x200,
            .packed = packed};
  }
  void set_up(Features accepted, std::uint64_t protocol_features) {
    const std::uint64_t user = kRegions[0].user;
    forget_descriptors();
    send(vhost::kSetProtocolFeatures, vhost::u64(protocol_features));
    const int fd = pipes_.emplace_back().write_end.get();
    if ((protocol_features & vhost::kBackendReq) != 0) {
      send(vhost::kSetBackendReqFd, {}, std::span(&fd, 1));
    }
    send(vhost::kSetFeatures, vhost::u64(accepted.with_bit(vhost::kProtocolFeaturesBit).bits()));
    if ((protocol_features & vhost::kStatus) != 0) send(vhost::kSetStatus, vhost::u64(0xB));
    vhost::Bytes table = bytes_of(static_cast<std::uint32_t>(kRegions.size()), 0U);
    for (const Region& region : kRegions) table = vhost::joined(table, describe(region));
    const std::array<int, kRegions.size()> fds{file().fd.get(), file().fd.get()};
    send(vhost::kSetMemTable, table, fds);
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      const QueueConfig config = config_of(queue, accepted.has(Feature::kRingPacked));
      send(vhost::kSetVringNum, vhost::state(queue, config.size));
      send(vhost::kSetVringBase, vhost::state(queue, 0));
      send(vhost::kSetVringAddr,
           bytes_of(std::uint32_t{queue}, 0U, user + config.descriptor_table,
                    user + config.used_ring, user + config.available_ring, std::uint64_t{0}));
      const int call = pipes_.emplace_back().write_end.get();
      send(vhost::kSetVringCall, vhost::u64(queue), std::span(&call, 1));
      const int kick = events_.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)).get();
      kicks_.push_back(events_.size() - 1);
      send(vhost::kSetVringKick, vhost::u64(queue), std::span(&kick, 1));
      send(vhost::kSetVringEnable, vhost::state(queue, 1));
      work();  // so that the socket does not fill up
    }
    if ((protocol_features & vhost::kStatus) != 0) send(vhost::kSetStatus, vhost::u64(0xF));
    work();
  }
  void kick(std::size_t queue) {
    if (queue >= kicks_.size()) return;
    const std::uint64_t one = 1;
    (void)!write(events_[kicks_[queue]].get(), &one, sizeof(one));
  }

  // ---- steps

  void write_memory() {
    const std::uint64_t at = input_.take<std::uint16_t>() % kFileBytes;
    const auto bytes = input_.take_bytes(input_.take<std::uint8_t>() % 65);
    std::memcpy(file().bytes + at, bytes.data(), std::min(bytes.size(), kFileBytes - at));
  }
  // Makes a descriptor that stands in memory available, on a split ring where set_up() has it.
  void offer() {
    const std::uint64_t ring = input_.take<std::uint8_t>() % kMaxBalloonQueues * kPageSize + 0x100;
    std::byte* const available = file().region(0) + ring;
    std::uint16_t index = 0;
    std::memcpy(&index, available + 2, sizeof(index));
    const auto head = static_cast<std::uint16_t>(input_.take<std::uint8_t>() % (kSize + 1));
    std::memcpy(available + 4 + 2 * (index % kSize), &head, sizeof(head));
    ++index;
    std::memcpy(available + 2, &index, sizeof(index));
  }
  void embed() {
    const auto value = input_.take<std::uint8_t>();
    switch (value % 8) {
      case 0:
        (void)device().set_target_pages(value);
        return;
      case 1:
        (void)device().start_hints();
        return;
      case 2:
        return device().stop_hints();
      case 3:
        return device().finish_hints();
      case 4:
        (void)device().run_owed_discards();
        return;
      case 5:
        (void)device().drain();
        return;
      case 6:
        (void)device().request_stats(std::chrono::nanoseconds(value));
        return;
      default:
        return device().set_stats_interval(std::chrono::nanoseconds(value));
    }
  }

  void step() {
    switch (input_.take<std::uint8_t>() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        send_some_message();
        break;
      case 5:
        send_raw_bytes();
        break;
      case 6:
      case 7:
        write_memory();
        return;
      case 8:
        offer();
        return;
      case 9:
      case 10:
        kick(some_ring());
        break;
      case 11:  // some of the features
        set_up(Features(input_.take<std::uint64_t>() & device().offered_features().bits())
                   .with(Feature::kVersion1),
               input_.take<std::uint32_t>() & vhost::kEveryProtocolFeature);
        break;
      case 12:
        embed();
        break;
      case 13:
        back_end_->dispatch();
        return;
      case 14:
        if (input_.take<std::uint8_t>() % 4 != 0) return;
        hang_up();
        connect();
        break;
      default:
        break;
    }
    work();
    listen();
    if (socket_.is_closed()) {
      hang_up();
      connect();
    }
  }

  void start_anew() {
    std::memset(file().bytes, 0, kFileBytes);
    connect();
    const Features accepted{Feature::kVersion1, Feature::kMustTellHost};
    set_up(accepted, vhost::kPlainProtocolFeatures);
    testing::RawRing ring(guest_memory(), config_of(kInflateQueue, false));
    const std::uint64_t payload = 10 * kPageSize;
    const std::uint32_t pfn = 11;
    check(guest_memory()->write(payload, std::as_bytes(std::span(&pfn, 1))), "a payload fits");
    ring.offer(0, {payload, 4, 0, 0});
    kick(kInflateQueue);
    work();
    check(ring.used_index() == 1, "a message is answered");
    check(device().is_ballooned(pfn) && device().ballooned_pages() == 1, "its page is booked");
    (void)device().set_target_pages(device().target_pages() == 1 ? 2 : 1);
    work();
    listen();
    listen_to_the_back_end(pipes_.front());
    check_metrics();
  }

  FuzzInput& input_;
  std::int64_t now_ = 0;
  Listener listener_;
  std::unique_ptr<VhostUserBackend> back_end_;
  VhostUserSocket socket_;
  int asked_ = 0;     // messages that may have a reply
  bool raw_ = false;  // and bytes of which that is not known
  std::vector<std::byte> received_;
  std::vector<Pipe> pipes_;
  std::vector<UniqueFd> events_;
  std::vector<std::size_t> kicks_;  // of `events_`, by queue
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  static_cast<void>(vballoon::fuzz::guest_memory());
  const std::size_t files = vballoon::fuzz::open_files();
  vballoon::fuzz::Session(input).run();
  vballoon::fuzz::check(vballoon::fuzz::open_files() == files, "no descriptor is lost");
  return 0;
}
