// SPDX-License-Identifier: MIT
// A Unix socket over which clients control and observe a balloon device (docs/control.md).
//
// It is part of a loop of the caller's: when fd() is readable, dispatch() has something to do. All
// calls but news() come from the thread of that loop, which also is the one that calls the device's
// process().
#ifndef VBALLOON_TOOLS_CONTROL_SERVER_H_
#define VBALLOON_TOOLS_CONTROL_SERVER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "balloon_control.h"
#include "base/unique_fd.h"
#include "control_options.h"
#include "device/limited_log.h"
#include "qmp_session.h"
#include "unix_socket.h"
#include "vballoon/balloon_device.h"
#include "vballoon/result.h"

namespace vballoon::tool {

class ControlServer {
 public:
  static constexpr std::size_t kMaxClients = 16;

  // Listens at a path until it is destroyed; `device` outlives it. Fails as Listener::at() does.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> create(const std::string& path,
                                                                     BalloonDevice& device,
                                                                     ControlOptions options);
  // The same on a listening socket that came from outside, which belongs to the server from now on.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> create(int listener,
                                                                     BalloonDevice& device,
                                                                     ControlOptions options);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  [[nodiscard]] int fd() const { return epoll_.get(); }
  // Does what there is to do, and no more than some turns of it, without waiting. Calls the
  // device's tick(), so nobody else need do so.
  void dispatch();
  // The device has news (BalloonOptions::news): makes fd() readable. From any thread, and from
  // within calls of the device.
  void news();

 private:
  struct Client {
    UniqueFd socket;
    QmpSession session;
    std::uint32_t interest = 0;  // what epoll was told
    bool finished = false;       // it sends no more
    bool gone = false;           // and reads no more
  };

  ControlServer(Listener listener, BalloonDevice& device, ControlOptions options);
  [[nodiscard]] Result<void> open();
  [[nodiscard]] bool watch(int fd, std::uint32_t events) const;

  void accept_clients();
  void pause_accepting();
  void read_from(Client& client, std::uint32_t events);
  void run_commands();
  void look();
  void write_to(Client& client);
  void end_clients();
  void set_interest(Client& client) const;
  void arm_timer(bool again) const;

  Listener listener_;
  Clock clock_;
  std::function<void()> quit_;
  std::string version_;
  LimitedLog log_;
  BalloonControl control_;
  UniqueFd epoll_;
  UniqueFd timer_;
  UniqueFd news_fd_;
  std::atomic<bool> news_pending_{false};
  std::map<int, Client> clients_;  // by their descriptor
  std::optional<std::chrono::nanoseconds> accept_again_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_CONTROL_SERVER_H_
