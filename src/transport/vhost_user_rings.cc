// SPDX-License-Identifier: MIT
// Messages about rings, and serving them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "transport/vhost_user_session.h"

namespace vballoon::vhost_user {
namespace {

// Of a queue that was kicked by a message, before that is answered.
constexpr int kTurnsAKick = 16;

tl::unexpected<Error> refused(std::string why) {
  return fail(Errc::kInvalidArgument, std::move(why));
}

bool make_nonblocking(const UniqueFd& fd) {
  const int flags = fcntl(fd.get(), F_GETFL);
  return flags >= 0 && fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) == 0;
}

}  // namespace

bool Session::packed() const { return device_.negotiated_features().has(Feature::kRingPacked); }

Result<Ring*> Session::ring(std::uint32_t index, bool must_rest) {
  if (index >= rings_.size()) return refused(fmt::format("there is no ring {}", index));
  Ring& ring = rings_[index];
  if (must_rest && ring.running) return refused(fmt::format("ring {} is running", index));
  return &ring;
}

// ---- where it is -------------------------------------------------------------------------------

Result<Session::Reply> Session::set_vring_num(Message& message) {
  const auto state = message.get<VringState>();
  const auto found = ring(state.index, true);
  if (!found) return tl::unexpected(found.error());
  // A packed ring may have any size.
  if (state.value == 0 || state.value > kBalloonMaxQueueSize ||
      (!packed() && !std::has_single_bit(state.value))) {
    return refused(fmt::format("ring {} of {} entries", state.index, state.value));
  }
  (*found)->size = static_cast<std::uint16_t>(state.value);
  return Reply();
}

Result<Session::Reply> Session::set_vring_addr(Message& message) {
  const auto addresses = message.get<VringAddr>();
  const auto found = ring(addresses.index, true);
  if (!found) return tl::unexpected(found.error());
  for (const std::uint64_t address :
       {addresses.descriptor_table, addresses.available_ring, addresses.used_ring}) {
    if (!memory_.guest_address(address)) {
      return refused(fmt::format("ring {} at {:#x}, outside the memory that is shared",
                                 addresses.index, address));
    }
  }
  (*found)->addresses = addresses;
  return Reply();
}

Result<Session::Reply> Session::set_vring_base(Message& message) {
  const auto state = message.get<VringState>();
  const auto found = ring(state.index, true);
  if (!found) return tl::unexpected(found.error());
  if (!accepted_) return refused("before SET_FEATURES");
  Ring& ring = **found;
  if (!packed() && state.value > 0xFFFF) {
    return refused(fmt::format("{:#x} for a split ring", state.value));
  }
  const QueuePosition position = decode_base(state.value, packed());
  if (ring.position_told && position != ring.position) begin_anew();
  ring.position = position;
  ring.base_is_zero = state.value == 0 && !ring.ran;
  return Reply();
}

// A driver that goes on does so where its rings stood. This is another one, and what the last one
// had in the balloon it may use. Where there is STATUS it says so itself.
void Session::begin_anew() {
  if (has(ProtocolFeature::kStatus)) return;
  const Features features = device_.negotiated_features();
  for (std::uint16_t index = 0; index < rings_.size(); ++index) {
    Ring& ring = rings_[index];
    ring.kicked = ring.kicked || ring.running;
    stop(ring, index);
    ring.ran = false;
    ring.position_told = false;
  }
  static_cast<void>(negotiate(features));
  for (std::uint16_t index = 0; index < rings_.size(); ++index) {
    if (!start_if_complete(index)) report_broken(index);
  }
}

// A front end that knows only split rings says 0 for a fresh packed one as well. In one that has
// gone round once, and stands there too, the first descriptor was used.
QueuePosition Session::position_of(const Ring& ring, const QueueConfig& config) const {
  if (!config.packed || !ring.base_is_zero) return ring.position;
  constexpr std::uint64_t kFlagsOffset = 14;
  constexpr std::uint16_t kUsedFlag = 0x8000;
  std::uint16_t flags = 0;
  const auto memory = memory_.guest_memory();
  const bool used = memory &&
                    (*memory)->read(config.descriptor_table + kFlagsOffset,
                                    std::as_writable_bytes(std::span(&flags, 1))) &&
                    (flags & kUsedFlag) != 0;
  return used ? ring.position : QueuePosition{};
}

// Stops the ring: its kicks are for whoever goes on.
Result<Session::Reply> Session::get_vring_base(Message& message) {
  const auto state = message.get<VringState>();
  const auto found = ring(state.index, false);
  if (!found) return tl::unexpected(found.error());
  Ring& ring = **found;
  stop(ring, static_cast<std::uint16_t>(state.index));
  forget_kick(ring);
  if (const auto config = place(ring, memory_)) ring.position = position_of(ring, *config);
  ring.position_told = true;
  const VringState reply{state.index, encode_base(ring.position, packed())};
  const auto bytes = std::as_bytes(std::span(&reply, 1));
  return Bytes(bytes.begin(), bytes.end());
}

std::optional<QueueConfig> Session::place(const Ring& ring, const MemoryTable& in) const {
  if (!ring.addresses) return std::nullopt;
  const auto descriptors = in.guest_address(ring.addresses->descriptor_table);
  const auto available = in.guest_address(ring.addresses->available_ring);
  const auto used = in.guest_address(ring.addresses->used_ring);
  if (!descriptors || !available || !used) return std::nullopt;
  const Features features = device_.negotiated_features();
  return QueueConfig{.size = ring.size,
                     .descriptor_table = *descriptors,
                     .available_ring = *available,
                     .used_ring = *used,
                     .event_index = features.has(Feature::kEventIdx),
                     .indirect = features.has(Feature::kIndirectDesc),
                     .packed = features.has(Feature::kRingPacked),
                     .in_order = features.has(Feature::kInOrder)};
}

// ---- notifications -----------------------------------------------------------------------------

Result<UniqueFd> Session::take_fd(Message& message) {
  const auto value = message.get<std::uint64_t>();
  if ((value & ~(kVringIndexMask | kVringNoFd)) != 0) return refused(fmt::format("{:#x}", value));
  const bool without = (value & kVringNoFd) != 0;
  if (without != message.fds.empty()) {
    return refused(fmt::format("{} descriptors, and it says {}", message.fds.size(),
                               without ? "none" : "one"));
  }
  if (without) return UniqueFd();
  UniqueFd fd = std::move(message.fds.front());
  if (!make_nonblocking(fd)) return refused("a descriptor that nobody can write to");
  return fd;
}

Result<Session::Reply> Session::set_vring_kick(Message& message) {
  auto fd = take_fd(message);
  if (!fd) return tl::unexpected(fd.error());
  const auto index = static_cast<std::uint16_t>(message.get<std::uint64_t>() & kVringIndexMask);
  const auto found = ring(index, false);
  if (!found) return tl::unexpected(found.error());
  Ring& ring = **found;
  if (!*fd && !has(ProtocolFeature::kInbandNotifications)) {
    return refused("no descriptor: this back end does not poll rings");
  }
  // Edge-triggered: nothing hangs on what a read of somebody else's descriptor does.
  if (*fd && !poll_.add(fd->get(), EPOLLIN | EPOLLET, kKickTag + index)) {
    return refused("a descriptor that cannot be waited for");
  }
  forget_kick(ring);
  ring.kick = std::move(*fd);
  ring.kickable = true;
  if (auto started = start_if_complete(index); !started) return tl::unexpected(started.error());
  return Reply();
}

Result<Session::Reply> Session::set_vring_call(Message& message) {
  auto fd = take_fd(message);
  if (!fd) return tl::unexpected(fd.error());
  const auto index = static_cast<std::uint16_t>(message.get<std::uint64_t>() & kVringIndexMask);
  const auto found = ring(index, false);
  if (!found) return tl::unexpected(found.error());
  (*found)->call = std::move(*fd);
  // What was used before may not have been told.
  if ((*found)->running) call(index);
  return Reply();
}

Result<Session::Reply> Session::set_vring_err(Message& message) {
  auto fd = take_fd(message);
  if (!fd) return tl::unexpected(fd.error());
  const auto found =
      ring(static_cast<std::uint32_t>(message.get<std::uint64_t>() & kVringIndexMask), false);
  if (!found) return tl::unexpected(found.error());
  (*found)->error = std::move(*fd);
  return Reply();
}

Result<Session::Reply> Session::set_vring_enable(Message& message) {
  const auto state = message.get<VringState>();
  const auto found = ring(state.index, false);
  if (!found) return tl::unexpected(found.error());
  if (state.value > 1) return refused(fmt::format("{} for a ring", state.value));
  if (!accepted_ || !Features(*accepted_).has_bit(kProtocolFeaturesBit)) {
    return refused("without protocol features a ring is enabled");
  }
  Ring& ring = **found;
  const auto index = static_cast<std::uint16_t>(state.index);
  ring.enabled = state.value == 1;
  if (ring.enabled && has(ProtocolFeature::kInbandNotifications)) ring.kickable = true;
  if (!ring.enabled) stop(ring, index);
  if (auto started = start_if_complete(index); !started) return tl::unexpected(started.error());
  return Reply();
}

Result<Session::Reply> Session::vring_kick(Message& message) {
  const auto state = message.get<VringState>();
  const auto found = ring(state.index, false);
  if (!found) return tl::unexpected(found.error());
  const auto index = static_cast<std::uint16_t>(state.index);
  (*found)->kickable = true;
  kicked(index);
  // The answer says that the kick has had its effect.
  for (int turn = 0; turn < kTurnsAKick && (to_serve_ >> index & 1) != 0; ++turn) {
    to_serve_ &= ~(1U << index);
    if (device_.process(index)) to_serve_ |= 1U << index;
  }
  return Reply();
}

// ---- running -----------------------------------------------------------------------------------

void Session::kicked(std::uint16_t index) {
  Ring& ring = rings_[index];
  if (trace_ != nullptr) trace_->kick(index);
  std::uint64_t count = 0;
  iovec piece{&count, sizeof(count)};
  if (ring.kick) static_cast<void>(!preadv2(ring.kick.get(), &piece, 1, -1, RWF_NOWAIT));
  ring.kicked = true;
  if (auto started = start_if_complete(index); !started) {
    log_.warn(fmt::format("front end: {}", started.error().message()));
    report_broken(index);
  }
  if (ring.running) to_serve_ |= 1U << index;
}

// A ring starts with its first kick. One that ran before goes on by itself, as a kick may have been
// for whoever had it until now. A driver that has set up a ring wants to hear of the configuration,
// also if it kicks nothing until then: DRIVER_OK, of which only SET_STATUS would tell.
Result<void> Session::start_if_complete(std::uint16_t index) {
  Ring& ring = rings_[index];
  const std::uint8_t status = device_.read_status();
  if (ring.running || !ring.complete() || (status & kStatusFeaturesOk) == 0) return {};
  if (!has(ProtocolFeature::kStatus) && (status & kStatusDriverOk) == 0) {
    device_.write_status(status | kStatusDriverOk);
  }
  const auto config = place(ring, memory_);
  if (!config) return refused(fmt::format("ring {} outside the memory that is shared", index));
  const QueuePosition position = position_of(ring, *config);
  const bool begins = ring.kicked || ring.ran || position != QueuePosition{};
  if (!begins) return {};
  if (auto taken = device_.resume_queue(index, *config, position); !taken) return taken;
  ring.running = true;
  ring.base_is_zero = false;
  ring.ran = true;
  ring.position_told = false;
  ring.kicked = false;
  ring.failure_told = false;
  to_serve_ |= 1U << index;
  return {};
}

void Session::stop(Ring& ring, std::uint16_t index) {
  if (!ring.running) return;
  ring.running = false;
  to_serve_ &= ~(1U << index);
  // A ring that is broken stands nowhere.
  if (const auto position = device_.suspend_queue(index)) ring.position = *position;
}

void Session::forget_kick(Ring& ring) {
  poll_.remove(ring.kick.get());
  ring.kick.reset();
  ring.kickable = false;
  ring.kicked = false;
}

void Session::forget_rings() {
  for (std::uint16_t index = 0; index < rings_.size(); ++index) {
    stop(rings_[index], index);
    forget_kick(rings_[index]);
    rings_[index] = Ring();
  }
  to_serve_ = 0;
  calls_unsaid_ = 0;
}

bool Session::serve() {
  for (std::uint32_t queues = std::exchange(to_serve_, 0); queues != 0; queues &= queues - 1) {
    const auto index = static_cast<std::uint16_t>(std::countr_zero(queues));
    if (!rings_[index].running) continue;
    if (device_.process(index)) to_serve_ |= 1U << index;
    if ((device_.read_status() & kStatusNeedsReset) != 0) report_broken(index);
  }
  return to_serve_ != 0;
}

// Once: with one descriptor for failures and for kicks each report would bring the next.
void Session::report_broken(std::uint16_t index) {
  Ring& ring = rings_[index];
  if (!ring.error || std::exchange(ring.failure_told, true)) return;
  const std::uint64_t one = 1;
  static_cast<void>(!write(ring.error.get(), &one, sizeof(one)));
}

}  // namespace vballoon::vhost_user
