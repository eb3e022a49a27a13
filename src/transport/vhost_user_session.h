// SPDX-License-Identifier: MIT
// One front end, from its first message to its last: what was negotiated, memory, rings.
#ifndef VBALLOON_SRC_TRANSPORT_VHOST_USER_SESSION_H_
#define VBALLOON_SRC_TRANSPORT_VHOST_USER_SESSION_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "device/limited_log.h"
#include "transport/event_poll.h"
#include "transport/vhost_user_channel.h"
#include "transport/vhost_user_memory.h"
#include "transport/vhost_user_protocol.h"
#include "transport/vhost_user_ring.h"
#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/clock.h"
#include "vballoon/result.h"

namespace vballoon::vhost_user {

// Tags of the descriptors that a session adds to the poll, beside those of its owner.
inline constexpr std::uint64_t kBackendTag = 0x100;
inline constexpr std::uint64_t kKickTag = 0x200;  // and the number of the queue

class Session {
 public:
  // All of them outlive the session. `memory_changed` as in VhostUserOptions, `clock` and `trace`
  // as in BalloonOptions.
  Session(BalloonDevice& device, UniqueFd socket, EventPoll& poll, const Clock& clock,
          LimitedLog& log, const std::function<void()>& memory_changed, Trace* trace);
  ~Session();  // the device is reset and has no memory then
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Deals with messages that have come, some at a time; false when the session is over.
  [[nodiscard]] bool receive();
  // An eventfd says that the queue was kicked.
  void kicked(std::uint16_t index);
  // The device asks for process().
  void wake(std::uint32_t queues) { to_serve_ |= queues; }
  // A turn for each queue that has something to do; true when there may be more.
  [[nodiscard]] bool serve();

  // The driver is to be told.
  void call(std::uint16_t index);
  void config_changed();
  // There is room again for what could not be said.
  void say_the_rest();
  // Does what is due; when the next thing will be.
  std::optional<std::chrono::nanoseconds> tick();

 private:
  using Bytes = std::vector<std::byte>;
  using Reply = std::optional<Bytes>;  // of a message that has one of its own
  using Handler = Result<Reply> (Session::*)(Message&);
  struct Row;
  static std::span<const Row> rows();

  [[nodiscard]] bool handle(Message& message);
  [[nodiscard]] bool refuse(const Message& message, const Error& why);
  [[nodiscard]] bool has(ProtocolFeature feature) const {
    return (protocol_features_ & bit_of(feature)) != 0;
  }

  [[nodiscard]] bool negotiate(Features features);

  [[nodiscard]] Result<Reply> get_features(Message& message);
  [[nodiscard]] Result<Reply> set_features(Message& message);
  [[nodiscard]] Result<Reply> get_protocol_features(Message& message);
  [[nodiscard]] Result<Reply> set_protocol_features(Message& message);
  [[nodiscard]] Result<Reply> ignore(Message& message);
  [[nodiscard]] Result<Reply> reset_device(Message& message);
  [[nodiscard]] Result<Reply> set_status(Message& message);
  [[nodiscard]] Result<Reply> get_status(Message& message);
  [[nodiscard]] Result<Reply> get_queue_num(Message& message);
  [[nodiscard]] Result<Reply> set_backend_req_fd(Message& message);
  [[nodiscard]] Result<Reply> get_config(Message& message);
  [[nodiscard]] Result<Reply> set_config(Message& message);

  [[nodiscard]] Result<Reply> set_mem_table(Message& message);
  [[nodiscard]] Result<Reply> get_max_mem_slots(Message& message);
  [[nodiscard]] Result<Reply> add_mem_reg(Message& message);
  [[nodiscard]] Result<Reply> rem_mem_reg(Message& message);
  [[nodiscard]] Result<void> use(MemoryTable table);
  [[nodiscard]] Result<void> take(const MemoryTable& table);

  [[nodiscard]] Result<Reply> set_vring_num(Message& message);
  [[nodiscard]] Result<Reply> set_vring_addr(Message& message);
  [[nodiscard]] Result<Reply> set_vring_base(Message& message);
  [[nodiscard]] Result<Reply> get_vring_base(Message& message);
  [[nodiscard]] Result<Reply> set_vring_kick(Message& message);
  [[nodiscard]] Result<Reply> set_vring_call(Message& message);
  [[nodiscard]] Result<Reply> set_vring_err(Message& message);
  [[nodiscard]] Result<Reply> set_vring_enable(Message& message);
  [[nodiscard]] Result<Reply> vring_kick(Message& message);

  // The ring of that number; fails when there is none, or when it runs and must not.
  [[nodiscard]] Result<Ring*> ring(std::uint32_t index, bool must_rest);
  // The descriptor that came with a message about a ring, or none if it says so.
  [[nodiscard]] Result<UniqueFd> take_fd(Message& message);
  [[nodiscard]] std::optional<QueueConfig> place(const Ring& ring, const MemoryTable& in) const;
  void begin_anew();
  [[nodiscard]] QueuePosition position_of(const Ring& ring, const QueueConfig& config) const;
  // Hands a ring to the device if it has all it takes and the driver has begun.
  [[nodiscard]] Result<void> start_if_complete(std::uint16_t index);
  void stop(Ring& ring, std::uint16_t index);
  void forget_kick(Ring& ring);
  void forget_rings();
  void report_broken(std::uint16_t index);
  [[nodiscard]] bool packed() const;

  // Says it over the back end's own channel; false when there is no room now.
  [[nodiscard]] bool say(BackendRequest request, std::span<const std::byte> payload);
  void say_config_changed();
  // It will be said again, unless that pause is longer than the last one.
  void remind_after(std::chrono::nanoseconds pause);

  BalloonDevice& device_;
  EventPoll& poll_;
  const Clock& clock_;
  LimitedLog& log_;
  const std::function<void()>& memory_changed_;
  Trace* const trace_;
  Channel channel_;
  std::uint64_t protocol_features_ = 0;
  std::optional<std::uint64_t> accepted_;  // by SET_FEATURES, with the bit of protocol features
  MemoryTable memory_;
  // A target that memory was too small for, and what it was lowered to.
  struct LoweredTarget {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
  };
  std::optional<LoweredTarget> lowered_;
  std::array<Ring, kMaxBalloonQueues> rings_;
  std::uint32_t to_serve_ = 0;  // a bit for each queue
  UniqueFd backend_;            // to the front end
  bool config_unsaid_ = false;
  std::uint32_t calls_unsaid_ = 0;  // a bit for each queue
  // When a change is said again, and how long after it was said before.
  struct Reminder {
    std::chrono::nanoseconds at{};
    std::chrono::nanoseconds pause{};
  };
  std::optional<Reminder> reminder_;
};

}  // namespace vballoon::vhost_user

#endif  // VBALLOON_SRC_TRANSPORT_VHOST_USER_SESSION_H_
