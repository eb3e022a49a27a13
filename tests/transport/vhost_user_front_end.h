// SPDX-License-Identifier: MIT
// A front end of vhost-user that keeps the rules: between a driver that reaches its device by
// sim::DeviceAccess, and a back end behind a socket.
#ifndef VBALLOON_TESTS_TRANSPORT_VHOST_USER_FRONT_END_H_
#define VBALLOON_TESTS_TRANSPORT_VHOST_USER_FRONT_END_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "transport/shared_guest_memory.h"
#include "transport/vhost_user_socket.h"
#include "vballoon/balloon_device.h"
#include "vballoon/sim/device_access.h"

namespace vballoon::testing {

// A region as messages about memory have it.
[[nodiscard]] vhost::Bytes describe(const SharedRegion& region);

struct FrontEndOptions {
  std::uint64_t protocol_features = vhost::kPlainProtocolFeatures;  // that it accepts, if offered
  bool protocol_features_bit = true;  // accepted with the features; else rings are always enabled
  bool memory_slots = false;          // memory is handed over region by region
  bool eventfd_calls = false;         // instead of pipes, as user-mode-linux has them
  // Lets a back end work that has no thread of its own; unset: it has, and answers are waited for.
  std::function<void()> let_work = {};
};

// Throws std::runtime_error when the back end refuses something, or has gone.
class VhostUserFrontEnd final : public sim::DeviceAccess {
 public:
  // Connects, and negotiates protocol features. `memory` must outlive it.
  VhostUserFrontEnd(const std::string& path, const SharedGuestMemory& memory,
                    FrontEndOptions options = {});

  // ---- what a driver sees

  Features read_features() override;
  void write_features(Features accepted) override { accepted_ = accepted; }
  std::uint8_t read_status() override;
  void write_status(std::uint8_t status) override;
  std::uint32_t read_config(std::uint64_t offset) override;
  void write_config(std::uint64_t offset, std::uint32_t value) override;
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override;
  Result<void> reset_queue(std::uint16_t index) override;
  void notify(std::uint16_t queue) override;

  // ---- what a hypervisor does beside

  [[nodiscard]] bool has(std::uint64_t feature) const {
    return (protocol_features_ & feature) != 0;
  }
  void share(const std::vector<SharedRegion>& regions);  // SET_MEM_TABLE
  void add_region(const SharedRegion& region);
  void remove_region(const SharedRegion& region);
  // Stops a ring; where it stands.
  std::uint32_t stop_ring(std::uint16_t index);
  // Sets a ring up that begins there, without a kick.
  void start_ring(std::uint16_t index, const QueueConfig& config, std::uint32_t base = 0);
  void enable_ring(std::uint16_t index, bool enabled);
  // Writes to the kick descriptor, or sends the message, and no more.
  void kick(std::uint16_t index);

  // Whether a ring was called since it was asked last; with in-band notifications take_messages()
  // finds that out.
  [[nodiscard]] bool take_call(std::uint16_t index);
  // How often it was said since then that the configuration has changed.
  [[nodiscard]] int take_config_changes();
  // Messages of the back end that have come over its channel, within that time.
  std::vector<vhost::Message> take_messages(int milliseconds = 0);

  // Sends a message that has no reply of its own; with REPLY_ACK waits for the 0.
  void tell(std::uint32_t request, const vhost::Bytes& payload, std::span<const int> fds = {});
  void tell(std::uint32_t request, const vhost::Bytes& payload, int fd) {
    tell(request, payload, std::span(&fd, 1));
  }
  [[nodiscard]] vhost::Message ask(std::uint32_t request, const vhost::Bytes& payload = {});

  [[nodiscard]] VhostUserSocket& socket() { return socket_; }
  // Ends of what the back end has the other ends of; a pipe's where it is no eventfd.
  [[nodiscard]] int call_fd(std::uint16_t index) const { return rings_.at(index).call.get(); }
  [[nodiscard]] int kick_fd(std::uint16_t index) const { return rings_.at(index).kick.get(); }

  void die();  // without a word

 private:
  struct RingEnds {
    UniqueFd kick;
    UniqueFd call;
    bool started = false;
    bool called = false;
  };

  void let_work() const {
    if (options_.let_work) options_.let_work();
  }
  [[nodiscard]] int patience() const { return options_.let_work ? 0 : 20'000; }
  void hand_over_memory();
  void reset();

  const SharedGuestMemory& memory_;
  const FrontEndOptions options_;
  VhostUserSocket socket_;
  std::uint64_t protocol_features_ = 0;
  UniqueFd back_channel_;
  Features accepted_;
  std::uint8_t status_ = 0;  // where the back end is not told
  bool slots_filled_ = false;
  std::array<std::uint32_t, 4> config_{};  // where it has none to be read
  std::array<RingEnds, kMaxBalloonQueues> rings_;
  int config_changes_ = 0;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_TRANSPORT_VHOST_USER_FRONT_END_H_
