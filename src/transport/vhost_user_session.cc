// SPDX-License-Identifier: MIT
// Messages about the device as a whole; those about rings are in vhost_user_rings.cc.
#include "transport/vhost_user_session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace vballoon::vhost_user {
namespace {

constexpr int kMessagesATurn = 32;
constexpr std::chrono::milliseconds kFirstReminder{100};
constexpr std::chrono::milliseconds kLastReminder{1600};

template <typename T>
std::vector<std::byte> bytes_of(const T& value) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

tl::unexpected<Error> refused(std::string why) {
  return fail(Errc::kInvalidArgument, std::move(why));
}

}  // namespace

// What a message looks like, and what it needs to be understood.
struct Session::Row {
  Request request;
  std::string_view name;
  std::size_t least_bytes;
  std::size_t most_bytes;
  std::size_t least_fds;
  std::size_t most_fds;
  std::optional<ProtocolFeature> needs;
  bool has_reply;
  Handler handler;
};

std::span<const Session::Row> Session::rows() {
  constexpr std::size_t kU64 = sizeof(std::uint64_t);
  constexpr std::size_t kState = sizeof(VringState);
  constexpr std::size_t kTable = sizeof(MemoryTableHeader);
  constexpr std::size_t kTableMost = kTable + kMaxTableRegions * sizeof(RegionDescription);
  constexpr std::size_t kConfig = sizeof(ConfigHeader);
  constexpr std::size_t kRegion = sizeof(SingleRegion);
  using enum Request;
  using S = Session;
  using P = ProtocolFeature;
  constexpr std::optional<P> kAlways;
  static constexpr Row kRows[] = {
      {kGetFeatures, "GET_FEATURES", 0, 0, 0, 0, kAlways, true, &S::get_features},
      {kSetFeatures, "SET_FEATURES", kU64, kU64, 0, 0, kAlways, false, &S::set_features},
      {kSetOwner, "SET_OWNER", 0, 0, 0, 0, kAlways, false, &S::ignore},
      {kResetOwner, "RESET_OWNER", 0, 0, 0, 0, kAlways, false, &S::ignore},
      {kSetMemTable, "SET_MEM_TABLE", kTable, kTableMost, 0, kMaxTableRegions, kAlways, false,
       &S::set_mem_table},
      {kSetVringNum, "SET_VRING_NUM", kState, kState, 0, 0, kAlways, false, &S::set_vring_num},
      {kSetVringAddr, "SET_VRING_ADDR", sizeof(VringAddr), sizeof(VringAddr), 0, 0, kAlways, false,
       &S::set_vring_addr},
      {kSetVringBase, "SET_VRING_BASE", kState, kState, 0, 0, kAlways, false, &S::set_vring_base},
      {kGetVringBase, "GET_VRING_BASE", kState, kState, 0, 0, kAlways, true, &S::get_vring_base},
      {kSetVringKick, "SET_VRING_KICK", kU64, kU64, 0, 1, kAlways, false, &S::set_vring_kick},
      {kSetVringCall, "SET_VRING_CALL", kU64, kU64, 0, 1, kAlways, false, &S::set_vring_call},
      {kSetVringErr, "SET_VRING_ERR", kU64, kU64, 0, 1, kAlways, false, &S::set_vring_err},
      {kGetProtocolFeatures, "GET_PROTOCOL_FEATURES", 0, 0, 0, 0, kAlways, true,
       &S::get_protocol_features},
      {kSetProtocolFeatures, "SET_PROTOCOL_FEATURES", kU64, kU64, 0, 0, kAlways, false,
       &S::set_protocol_features},
      {kGetQueueNum, "GET_QUEUE_NUM", 0, 0, 0, 0, P::kMultiqueue, true, &S::get_queue_num},
      {kSetVringEnable, "SET_VRING_ENABLE", kState, kState, 0, 0, kAlways, false,
       &S::set_vring_enable},
      {kSetBackendReqFd, "SET_BACKEND_REQ_FD", 0, 0, 1, 1, P::kBackendReq, false,
       &S::set_backend_req_fd},
      {kGetConfig, "GET_CONFIG", kConfig, kConfig + kMaxConfigBytes, 0, 0, P::kConfig, true,
       &S::get_config},
      {kSetConfig, "SET_CONFIG", kConfig, kConfig + kMaxConfigBytes, 0, 0, P::kConfig, false,
       &S::set_config},
      {kResetDevice, "RESET_DEVICE", 0, 0, 0, 0, P::kResetDevice, false, &S::reset_device},
      {kVringKick, "VRING_KICK", kState, kState, 0, 0, P::kInbandNotifications, false,
       &S::vring_kick},
      {kGetMaxMemSlots, "GET_MAX_MEM_SLOTS", 0, 0, 0, 0, P::kConfigureMemSlots, true,
       &S::get_max_mem_slots},
      {kAddMemReg, "ADD_MEM_REG", kRegion, kRegion, 1, 1, P::kConfigureMemSlots, false,
       &S::add_mem_reg},
      // Some front ends send the descriptor of the region again.
      {kRemMemReg, "REM_MEM_REG", kRegion, kRegion, 0, 1, P::kConfigureMemSlots, false,
       &S::rem_mem_reg},
      {kSetStatus, "SET_STATUS", kU64, kU64, 0, 0, P::kStatus, false, &S::set_status},
      {kGetStatus, "GET_STATUS", 0, 0, 0, 0, P::kStatus, true, &S::get_status},
  };
  return kRows;
}

Session::Session(BalloonDevice& device, UniqueFd socket, EventPoll& poll, const Clock& clock,
                 LimitedLog& log, const std::function<void()>& memory_changed, Trace* trace)
    : device_(device),
      poll_(poll),
      clock_(clock),
      log_(log),
      memory_changed_(memory_changed),
      trace_(trace),
      channel_(std::move(socket)) {}

Session::~Session() {
  device_.write_status(0);
  forget_rings();
  poll_.remove(backend_.get());
  static_cast<void>(take(MemoryTable()));
}

// ---- messages ----------------------------------------------------------------------------------

bool Session::receive() {
  for (int i = 0; i < kMessagesATurn; ++i) {
    switch (channel_.receive()) {
      case Channel::Received::kMessage:
        if (!handle(channel_.message())) return false;
        channel_.message().fds.clear();
        break;
      case Channel::Received::kNothing:
        return true;
      case Channel::Received::kEnd:
        return false;
      case Channel::Received::kBroken:
        log_.warn(fmt::format("front end: {}", channel_.why()));
        return false;
    }
  }
  return true;
}

bool Session::handle(Message& message) {
  const auto table = rows();
  const auto row = std::ranges::find_if(table, [&](const Row& candidate) {
    return static_cast<std::uint32_t>(candidate.request) == message.header.request;
  });
  const std::size_t size = message.header.size;
  const std::size_t fds = message.fds.size();
  Result<Reply> done = Reply();
  if (row == table.end()) {
    // Known to a later front end perhaps, which need not lose its connection.
    done = refused(fmt::format("message {} is not known", message.header.request));
    if ((message.header.flags & kNeedReplyFlag) == 0 || !has(ProtocolFeature::kReplyAck)) {
      log_.warn(fmt::format("front end: {}", done.error().context));
      return true;
    }
  } else if (size < row->least_bytes || size > row->most_bytes) {
    done = refused(fmt::format("{} with {} bytes", row->name, size));
  } else if (fds < row->least_fds || fds > row->most_fds) {
    done = refused(fmt::format("{} with {} descriptors", row->name, fds));
  } else if (row->needs && !has(*row->needs)) {
    done = refused(fmt::format("{} without its protocol feature", row->name));
  } else {
    done = (this->*row->handler)(message);
    if (!done) done.error().context = fmt::format("{}: {}", row->name, done.error().message());
  }
  if (!done) return refuse(message, done.error());
  if (*done) return channel_.reply(message.header.request, **done);
  if ((message.header.flags & kNeedReplyFlag) == 0 || !has(ProtocolFeature::kReplyAck)) return true;
  return channel_.reply(message.header.request, bytes_of(std::uint64_t{0}));
}

// An error has a reply where one is waited for and can say so; else the connection ends.
bool Session::refuse(const Message& message, const Error& why) {
  log_.warn(fmt::format("front end: {}", why.context));
  if (message.header.request == static_cast<std::uint32_t>(Request::kGetConfig)) {
    return channel_.reply(message.header.request, {});
  }
  const auto table = rows();
  const bool has_reply = std::ranges::any_of(table, [&](const Row& row) {
    return static_cast<std::uint32_t>(row.request) == message.header.request && row.has_reply;
  });
  const bool can_say =
      (message.header.flags & kNeedReplyFlag) != 0 && has(ProtocolFeature::kReplyAck) && !has_reply;
  return can_say && channel_.reply(message.header.request, bytes_of(std::uint64_t{1}));
}

Result<Session::Reply> Session::ignore(Message&) { return Reply(); }

// ---- negotiation -------------------------------------------------------------------------------

Result<Session::Reply> Session::get_features(Message&) {
  return bytes_of(device_.offered_features().with_bit(kProtocolFeaturesBit).bits());
}

// Without STATUS nobody says when a driver begins. One that goes on has asked where its rings stand
// and accepts what it accepted before; any other finds the device reset, as one does whose device
// needs it.
Result<Session::Reply> Session::set_features(Message& message) {
  const auto accepted = message.get<std::uint64_t>();
  const Features features = Features(accepted).without_bit(kProtocolFeaturesBit);
  const bool runs = std::ranges::any_of(rings_, &Ring::running);
  const bool broken = (device_.read_status() & kStatusNeedsReset) != 0;
  const bool goes_on = !broken && std::ranges::all_of(rings_, [](const Ring& r) {
    return r.running || !r.ran || r.position_told;
  });
  if (accepted_ == accepted && (goes_on || has(ProtocolFeature::kStatus))) return Reply();
  if (runs) return refused("other features while rings are running");
  if (has(ProtocolFeature::kStatus)) {
    if ((device_.read_status() & kStatusFeaturesOk) != 0) {
      return refused("other features after FEATURES_OK");
    }
    device_.write_features(features);
  } else {
    forget_rings();
    if (!negotiate(features)) {
      accepted_.reset();
      return refused(fmt::format("features {:#x}, of {:#x} that are offered", features.bits(),
                                 device_.offered_features().bits()));
    }
  }
  accepted_ = accepted;
  // Without that bit there is no message that enables a ring.
  for (Ring& ring : rings_) ring.enabled = !Features(accepted).has_bit(kProtocolFeaturesBit);
  return Reply();
}

// A driver begins, of which nothing is known but that.
bool Session::negotiate(Features features) {
  device_.write_status(0);
  device_.write_status(kStatusAcknowledge | kStatusDriver);
  device_.write_features(features);
  device_.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  return (device_.read_status() & kStatusFeaturesOk) != 0;
}

Result<Session::Reply> Session::get_protocol_features(Message&) {
  return bytes_of(kProtocolFeatures);
}

Result<Session::Reply> Session::set_protocol_features(Message& message) {
  const auto accepted = message.get<std::uint64_t>();
  if ((accepted & ~kProtocolFeatures) != 0) {
    return refused(fmt::format("protocol features {:#x}, of {:#x} that are offered", accepted,
                               kProtocolFeatures));
  }
  constexpr std::uint64_t kBoth =
      bit_of(ProtocolFeature::kReplyAck) | bit_of(ProtocolFeature::kBackendReq);
  if ((accepted & bit_of(ProtocolFeature::kInbandNotifications)) != 0 &&
      (accepted & kBoth) != kBoth) {
    return refused("in-band notifications without REPLY_ACK and BACKEND_REQ");
  }
  protocol_features_ = accepted;
  return Reply();
}

Result<Session::Reply> Session::get_queue_num(Message&) {
  return bytes_of(std::uint64_t{kMaxBalloonQueues});
}

Result<Session::Reply> Session::reset_device(Message&) {
  forget_rings();
  accepted_.reset();
  device_.write_status(0);
  return Reply();
}

Result<Session::Reply> Session::set_status(Message& message) {
  const auto status = message.get<std::uint64_t>();
  if (status > 0xFF) return refused(fmt::format("status {:#x}", status));
  if (status == 0) return reset_device(message);
  device_.write_status(static_cast<std::uint8_t>(status));
  for (std::uint16_t index = 0; index < rings_.size(); ++index) {
    if (auto started = start_if_complete(index); !started) return tl::unexpected(started.error());
  }
  return Reply();
}

Result<Session::Reply> Session::get_status(Message&) {
  return bytes_of(std::uint64_t{device_.read_status()});
}

// ---- configuration -----------------------------------------------------------------------------

Result<Session::Reply> Session::get_config(Message& message) {
  const auto header = message.get<ConfigHeader>();
  if (message.header.size != sizeof(header) + header.size || header.offset > kMaxConfigBytes ||
      header.size > kMaxConfigBytes - header.offset) {
    return refused(fmt::format("{} bytes at {} in a message of {}", header.size, header.offset,
                               message.header.size));
  }
  Bytes reply(message.header.size);
  std::memcpy(reply.data(), &header, sizeof(header));
  device_.read_config(header.offset, std::span(reply).subspan(sizeof(header)));
  return reply;
}

Result<Session::Reply> Session::set_config(Message& message) {
  const auto header = message.get<ConfigHeader>();
  const bool is_field = header.size == sizeof(std::uint32_t) &&
                        (header.offset == kActualOffset || header.offset == kPoisonValueOffset);
  if (message.header.size != sizeof(header) + header.size || !is_field) {
    return refused(
        fmt::format("{} bytes at {}: neither actual nor poison_val", header.size, header.offset));
  }
  device_.write_config(header.offset, message.payload().subspan(sizeof(header)));
  return Reply();
}

// ---- memory ------------------------------------------------------------------------------------

Result<Session::Reply> Session::set_mem_table(Message& message) {
  const auto header = message.get<MemoryTableHeader>();
  const std::size_t count = header.regions;
  // Older front ends send room for more regions than there are.
  if (count != message.fds.size() ||
      message.header.size < sizeof(header) + count * sizeof(RegionDescription)) {
    return refused(fmt::format("{} regions, {} descriptors, {} bytes", count, message.fds.size(),
                               message.header.size));
  }
  MemoryTable table;
  for (std::size_t i = 0; i < count; ++i) {
    const auto region =
        message.get<RegionDescription>(sizeof(header) + i * sizeof(RegionDescription));
    if (auto added = table.add(region, message.fds[i]); !added) {
      return tl::unexpected(added.error());
    }
  }
  if (auto used = use(std::move(table)); !used) return tl::unexpected(used.error());
  return Reply();
}

Result<Session::Reply> Session::get_max_mem_slots(Message&) {
  return bytes_of(std::uint64_t{kMaxMemorySlots});
}

Result<Session::Reply> Session::add_mem_reg(Message& message) {
  MemoryTable table = memory_;
  auto done = table.add(message.get<SingleRegion>().region, message.fds.front());
  if (done) done = use(std::move(table));
  if (!done) return tl::unexpected(done.error());
  return Reply();
}

Result<Session::Reply> Session::rem_mem_reg(Message& message) {
  MemoryTable table = memory_;
  auto done = table.remove(message.get<SingleRegion>().region);
  if (done) done = use(std::move(table));
  if (!done) return tl::unexpected(done.error());
  return Reply();
}

Result<void> Session::use(MemoryTable table) {
  if (auto taken = take(table); !taken) return taken;
  memory_ = std::move(table);
  if (memory_changed_) memory_changed_();
  return {};
}

// The device goes on in other memory, with its rings wherever their addresses lie there. A target
// beyond it waits for memory that is still to come, region by region perhaps, or by the next front
// end; unless it was set to something else meanwhile.
Result<void> Session::take(const MemoryTable& table) {
  auto memory = table.guest_memory();
  if (!memory) return tl::unexpected(memory.error());
  const std::uint64_t pages = (*memory)->page_count();
  const std::uint64_t target = device_.target_pages();
  const std::uint64_t wanted = lowered_ && lowered_->to == target ? lowered_->from : target;
  const std::uint64_t fits = pages == 0 ? wanted : std::min(wanted, pages);
  if (fits < target) {
    log_.warn("front end: less memory than the target of the balloon, which is lowered to it");
    if (auto lowered = device_.set_target_pages(fits); !lowered) return lowered;
  }
  auto done = device_.set_memory(*memory, [&](std::uint16_t index, const QueueConfig&) {
    return place(rings_[index], table);
  });
  if (!done) return done;
  lowered_.reset();
  if (fits < wanted) lowered_ = LoweredTarget{wanted, fits};
  return fits > target ? device_.set_target_pages(fits) : done;
}

// ---- to the front end --------------------------------------------------------------------------

Result<Session::Reply> Session::set_backend_req_fd(Message& message) {
  UniqueFd fd = std::move(message.fds.front());
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      !poll_.add(fd.get(), EPOLLOUT | EPOLLET, kBackendTag)) {
    return refused("the descriptor is neither a pipe nor a socket");
  }
  poll_.remove(backend_.get());
  backend_ = std::move(fd);
  return Reply();
}

bool Session::say(BackendRequest request, std::span<const std::byte> payload) {
  const Header header{static_cast<std::uint32_t>(request), kVersion,
                      static_cast<std::uint32_t>(payload.size())};
  std::array<std::byte, sizeof(Header) + sizeof(VringState)> bytes;
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::ranges::copy(payload, bytes.begin() + sizeof(header));
  const std::size_t size = sizeof(header) + payload.size();
  const ssize_t written = write(backend_.get(), bytes.data(), size);
  if (written == static_cast<ssize_t>(size)) return true;
  if (written < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  // It is closed, or a part of a message stands there: nothing that comes could be understood.
  log_.warn("front end: the back end's channel does not take messages any more");
  poll_.remove(backend_.get());
  backend_.reset();
  return true;
}

void Session::say_config_changed() {
  if (backend_) config_unsaid_ = !say(BackendRequest::kConfigChange, {});
}

// Where calls come over the same channel it is said again some times, after twice as long each
// time. Linux (user-mode-linux 6.1) deals with calls that it takes from there, and with a change
// only if no call came with it: one that it passes over waits for the next message, for ever
// perhaps. That the driver reads its configuration does not tell: it may do so for an earlier
// change.
void Session::config_changed() {
  say_config_changed();
  if (has(ProtocolFeature::kInbandNotifications)) remind_after(kFirstReminder);
}

void Session::remind_after(std::chrono::nanoseconds pause) {
  reminder_.reset();
  if (pause <= kLastReminder) reminder_ = {.at = clock_() + pause, .pause = pause};
}

std::optional<std::chrono::nanoseconds> Session::tick() {
  if (reminder_ && clock_() >= reminder_->at) {
    say_config_changed();
    remind_after(reminder_->pause * 2);
  }
  return reminder_ ? std::optional(reminder_->at) : std::nullopt;
}

void Session::call(std::uint16_t index) {
  Ring& ring = rings_[index];
  if (ring.call) {
    // Full means that the other side has not looked at calls that came before.
    const std::uint64_t one = 1;
    static_cast<void>(!write(ring.call.get(), &one, sizeof(one)));
  } else if (has(ProtocolFeature::kInbandNotifications) && backend_) {
    const VringState state{index, 0};
    const auto bit = 1U << index;
    calls_unsaid_ &= ~bit;
    if (!say(BackendRequest::kVringCall, std::as_bytes(std::span(&state, 1)))) {
      calls_unsaid_ |= bit;
    }
  }
}

void Session::say_the_rest() {
  if (config_unsaid_) say_config_changed();
  for (std::uint16_t index = 0; index < rings_.size(); ++index) {
    if ((calls_unsaid_ >> index & 1) != 0) call(index);
  }
}

}  // namespace vballoon::vhost_user
