// SPDX-License-Identifier: MIT
// A device behind a control socket that is served by a thread, with a guest that does at once what
// it is told. And servers that are none.
#ifndef VBALLOON_TESTS_TOOLS_SERVED_DEVICE_H_
#define VBALLOON_TESTS_TOOLS_SERVED_DEVICE_H_

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "control_server.h"
#include "device/device_fixture.h"
#include "socket_folder.h"
#include "unix_socket.h"

namespace vballoon::tool::testing {

enum class GuestHabit { kObeys, kDoesNothing };

class ServedDevice {
 public:
  explicit ServedDevice(GuestHabit habit = GuestHabit::kObeys) {
    if (habit == GuestHabit::kObeys) {
      rig_.on_config_interrupt = [this] {
        rig_.write_config32(kActualOffset, rig_.config32(kNumPagesOffset));
      };
    }
    rig_.start();
    rig_.send(2, {{vballoon::testing::stats_entries({{4, 844943360}, {2, 235}})}});
    rig_.serve(2);
    server_ = ControlServer::create(path_, rig_.device(), {.version = "1.2.3"}).value();
    thread_ = std::thread([this] { run(); });
  }
  ~ServedDevice() {
    const std::uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) == sizeof one) thread_.join();
  }
  ServedDevice(const ServedDevice&) = delete;
  ServedDevice& operator=(const ServedDevice&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] vballoon::testing::Rig& rig() { return rig_; }

 private:
  void run() {
    while (true) {
      std::array<pollfd, 2> waits{{{server_->fd(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
      if (::poll(waits.data(), waits.size(), -1) < 0) continue;
      if (waits[1].revents != 0) return;
      server_->dispatch();
    }
  }

  UniqueFd stop_{::eventfd(0, EFD_CLOEXEC)};
  std::unique_ptr<ControlServer> server_;
  vballoon::testing::Rig rig_{
      {.device = {
           .features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kFreePageHint},
           .news =
               [this] {
                 if (server_ != nullptr) server_->news();
               },
           .on_free_page_hints = [](std::span<const PageRange>) {}}}};
  SocketFolder folder_;
  std::string path_ = folder_.path("control");
  std::thread thread_;
};

// Serves one client: says the first of its lines, and each further one when the client has said
// something. Then it hangs up, or stays silent until the client hangs up.
class ScriptedServer {
 public:
  enum class Ending { kHangsUp, kSilence };

  explicit ScriptedServer(std::vector<std::string> lines, Ending ending = Ending::kHangsUp)
      : lines_(std::move(lines)), ending_(ending), thread_([this] { run(); }) {}
  ~ScriptedServer() {
    // One that nobody came to.
    if (const auto socket = connect_to(path_)) ::shutdown(socket->get(), SHUT_RDWR);
    thread_.join();
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void run() {
    pollfd waiting{listener_.fd(), POLLIN, 0};
    ::poll(&waiting, 1, -1);
    const UniqueFd client(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    std::array<char, 4096> request;
    bool first = true;
    for (const std::string& line : lines_) {
      if (!std::exchange(first, false) &&
          ::recv(client.get(), request.data(), request.size(), 0) <= 0) {
        return;
      }
      if (::send(client.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return;
    }
    if (ending_ == Ending::kHangsUp) return;
    while (::recv(client.get(), request.data(), request.size(), 0) > 0) {
    }
  }

  std::vector<std::string> lines_;
  Ending ending_;
  SocketFolder folder_;
  std::string path_ = folder_.path("control");
  Listener listener_ = Listener::at(path_).value();
  std::thread thread_;
};

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_SERVED_DEVICE_H_
