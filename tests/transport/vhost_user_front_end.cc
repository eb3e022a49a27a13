// SPDX-License-Identifier: MIT
#include "transport/vhost_user_front_end.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "vballoon/balloon_registers.h"

namespace vballoon::testing {
namespace {

// Both ends of a pipe; ours never blocks.
std::pair<UniqueFd, UniqueFd> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) throw std::runtime_error("pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

vhost::Bytes describe(const SharedRegion& region) {
  return vhost::bytes_of(region.guest, region.bytes, region.user, region.offset);
}

VhostUserFrontEnd::VhostUserFrontEnd(const std::string& path, const SharedGuestMemory& memory,
                                     FrontEndOptions options)
    : memory_(memory), options_(std::move(options)), socket_(VhostUserSocket::connect(path)) {
  tell(vhost::kSetOwner, {});
  const std::uint64_t features = ask(vhost::kGetFeatures).u64();
  if ((features >> vhost::kProtocolFeaturesBit & 1) == 0) return;
  const std::uint64_t offered = ask(vhost::kGetProtocolFeatures).u64();
  const std::uint64_t accepted = offered & options_.protocol_features;
  tell(vhost::kSetProtocolFeatures, vhost::u64(accepted));
  protocol_features_ = accepted;
  if (has(vhost::kBackendReq)) {
    auto [ours, theirs] = make_pipe();
    back_channel_ = std::move(ours);
    tell(vhost::kSetBackendReqFd, {}, theirs.get());
  }
  if (has(vhost::kMultiqueue) && ask(vhost::kGetQueueNum).u64() < 5) {
    throw std::runtime_error("too few queues");
  }
}

// ---- messages ----------------------------------------------------------------------------------

void VhostUserFrontEnd::tell(std::uint32_t request, const vhost::Bytes& payload,
                             std::span<const int> fds) {
  const bool acknowledged = has(vhost::kReplyAck);
  const std::uint32_t flags = vhost::kVersion | (acknowledged ? vhost::kNeedReply : 0);
  const bool sent = socket_.send(request, payload, fds, flags);
  let_work();
  if (sent && !acknowledged && !socket_.is_closed()) return;
  const auto reply = sent && acknowledged ? socket_.receive(patience()) : std::nullopt;
  if (!reply || reply->request != request || reply->payload != vhost::u64(0)) {
    throw std::runtime_error("message " + std::to_string(request) + " is refused");
  }
}

vhost::Message VhostUserFrontEnd::ask(std::uint32_t request, const vhost::Bytes& payload) {
  const bool sent = socket_.send(request, payload);
  let_work();
  auto reply = sent ? socket_.receive(patience()) : std::nullopt;
  if (!reply || reply->request != request) {
    throw std::runtime_error("message " + std::to_string(request) + " has no reply");
  }
  return *std::move(reply);
}

void VhostUserFrontEnd::die() {
  socket_.close();
  back_channel_.reset();
  for (RingEnds& ring : rings_) ring = RingEnds();
  let_work();
}

// ---- memory ------------------------------------------------------------------------------------

void VhostUserFrontEnd::share(const std::vector<SharedRegion>& regions) {
  vhost::Bytes payload = vhost::bytes_of(static_cast<std::uint32_t>(regions.size()), 0U);
  std::vector<int> fds;
  for (const SharedRegion& region : regions) {
    payload = vhost::joined(payload, describe(region));
    fds.push_back(memory_.fd());
  }
  tell(vhost::kSetMemTable, payload, fds);
}

void VhostUserFrontEnd::add_region(const SharedRegion& region) {
  tell(vhost::kAddMemReg, vhost::joined(vhost::u64(0), describe(region)), memory_.fd());
}

void VhostUserFrontEnd::remove_region(const SharedRegion& region) {
  tell(vhost::kRemMemReg, vhost::joined(vhost::u64(0), describe(region)));
}

void VhostUserFrontEnd::hand_over_memory() {
  if (!options_.memory_slots) return share(memory_.regions());
  if (std::exchange(slots_filled_, true)) return;
  for (const SharedRegion& region : memory_.regions()) add_region(region);
}

// ---- the device as a whole ---------------------------------------------------------------------

Features VhostUserFrontEnd::read_features() {
  return Features(ask(vhost::kGetFeatures).u64()).without_bit(vhost::kProtocolFeaturesBit);
}

std::uint8_t VhostUserFrontEnd::read_status() {
  if (!has(vhost::kStatus)) return status_;
  return static_cast<std::uint8_t>(ask(vhost::kGetStatus).u64());
}

void VhostUserFrontEnd::reset() {
  if (has(vhost::kStatus)) {
    tell(vhost::kSetStatus, vhost::u64(0));
  } else if (has(vhost::kResetDeviceFeature)) {
    tell(vhost::kResetDevice, {});
  } else {
    for (std::uint16_t index = kMaxBalloonQueues; index-- > 0;) {
      if (!rings_[index].started) continue;
      if (options_.protocol_features_bit) {
        enable_ring(index, false);
      } else {
        (void)stop_ring(index);
      }
    }
    (void)ask(vhost::kGetFeatures);  // when it is answered, all is quiet
  }
  for (RingEnds& ring : rings_) ring = RingEnds();
}

void VhostUserFrontEnd::write_status(std::uint8_t status) {
  if (status == 0) reset();
  const bool settles = (status & ~read_status() & kStatusFeaturesOk) != 0;
  if (settles) {
    Features features = accepted_;
    if (options_.protocol_features_bit) {
      features = features.with_bit(vhost::kProtocolFeaturesBit);
    }
    tell(vhost::kSetFeatures, vhost::u64(features.bits()));
  }
  status_ = status;
  if (has(vhost::kStatus) && status != 0) tell(vhost::kSetStatus, vhost::u64(status));
  if (settles) hand_over_memory();
}

std::uint32_t VhostUserFrontEnd::read_config(std::uint64_t offset) {
  if (!has(vhost::kConfig)) return config_.at(offset / 4);
  const auto size = static_cast<std::uint32_t>(offset + 4);
  vhost::Bytes payload = vhost::bytes_of(0U, size, 0U);
  payload.resize(payload.size() + size);
  const vhost::Message reply = ask(vhost::kGetConfig, payload);
  if (reply.payload.size() != payload.size()) throw std::runtime_error("no configuration");
  std::uint32_t value = 0;
  std::memcpy(&value, reply.payload.data() + 12 + offset, sizeof(value));
  return value;
}

void VhostUserFrontEnd::write_config(std::uint64_t offset, std::uint32_t value) {
  config_.at(offset / 4) = value;
  if (!has(vhost::kConfig)) return;
  tell(vhost::kSetConfig, vhost::bytes_of(static_cast<std::uint32_t>(offset), 4U, 0U, value));
}

// ---- rings -------------------------------------------------------------------------------------

Result<void> VhostUserFrontEnd::set_queue(std::uint16_t index, const QueueConfig& config) {
  // One that asks rings where they stand knows how a packed one says that it is fresh.
  const bool fresh_packed = config.packed && !options_.protocol_features_bit;
  start_ring(index, config, fresh_packed ? vhost::kFreshPacked : 0);
  return {};
}

Result<void> VhostUserFrontEnd::reset_queue(std::uint16_t) { return fail(Errc::kNotSupported); }

void VhostUserFrontEnd::start_ring(std::uint16_t index, const QueueConfig& config,
                                   std::uint32_t base) {
  RingEnds& ring = rings_.at(index);
  const bool inband = has(vhost::kInband);
  if (!inband) {
    if (options_.eventfd_calls) {
      ring.call = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      tell(vhost::kSetVringCall, vhost::u64(index), ring.call.get());
    } else {
      auto [ours, theirs] = make_pipe();
      ring.call = std::move(ours);
      tell(vhost::kSetVringCall, vhost::u64(index), theirs.get());
    }
  }
  tell(vhost::kSetVringNum, vhost::state(index, config.size));
  tell(vhost::kSetVringBase, vhost::state(index, base));
  tell(vhost::kSetVringAddr,
       vhost::bytes_of(std::uint32_t{index}, 0U, memory_.user_address(config.descriptor_table),
                       memory_.user_address(config.used_ring),
                       memory_.user_address(config.available_ring), std::uint64_t{0}));
  if (!inband) {
    ring.kick = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    tell(vhost::kSetVringKick, vhost::u64(index), ring.kick.get());
  }
  ring.started = true;
  if (options_.protocol_features_bit) enable_ring(index, true);
}

void VhostUserFrontEnd::enable_ring(std::uint16_t index, bool enabled) {
  tell(vhost::kSetVringEnable, vhost::state(index, enabled ? 1 : 0));
}

std::uint32_t VhostUserFrontEnd::stop_ring(std::uint16_t index) {
  const vhost::Message reply = ask(vhost::kGetVringBase, vhost::state(index, 0));
  rings_.at(index).started = false;
  std::array<std::uint32_t, 2> state{};
  if (reply.payload.size() != sizeof(state)) throw std::runtime_error("no base");
  std::memcpy(state.data(), reply.payload.data(), sizeof(state));
  return state[1];
}

void VhostUserFrontEnd::kick(std::uint16_t index) {
  if (has(vhost::kInband)) return tell(vhost::kVringKick, vhost::state(index, 0));
  const std::uint64_t one = 1;
  if (write(rings_.at(index).kick.get(), &one, sizeof(one)) != sizeof(one)) {
    throw std::runtime_error("kick");
  }
}

void VhostUserFrontEnd::notify(std::uint16_t queue) {
  kick(queue);
  let_work();
}

// ---- what the back end says --------------------------------------------------------------------

std::vector<vhost::Message> VhostUserFrontEnd::take_messages(int milliseconds) {
  std::vector<vhost::Message> messages;
  while (auto message = read_message(back_channel_.get(), messages.empty() ? milliseconds : 0)) {
    if (message->request == vhost::kConfigChange) ++config_changes_;
    if (message->request == vhost::kVringCall && message->payload.size() == 8) {
      rings_.at(std::to_integer<std::uint8_t>(message->payload.front())).called = true;
    }
    messages.push_back(*std::move(message));
  }
  return messages;
}

bool VhostUserFrontEnd::take_call(std::uint16_t index) {
  RingEnds& ring = rings_.at(index);
  if (has(vhost::kInband)) {
    (void)take_messages();
    return std::exchange(ring.called, false);
  }
  bool called = false;
  std::uint64_t value = 0;
  while (read(ring.call.get(), &value, sizeof(value)) == sizeof(value)) called = true;
  return called;
}

int VhostUserFrontEnd::take_config_changes() {
  (void)take_messages();
  return std::exchange(config_changes_, 0);
}

}  // namespace vballoon::testing
