// SPDX-License-Identifier: MIT
#include "serve_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "control_server.h"
#include "outcome.h"
#include "sizes.h"
#include "terminal.h"
#include "trace_file.h"
#include "unix_socket.h"
#include "vballoon/discarder.h"
#include "vballoon/page_range.h"
#include "vballoon/transport/vhost_user.h"
#include "vm/discard_thread.h"
#include "vm/event_fd.h"

namespace vballoon::tool {
namespace {

// SIGTERM and SIGINT as something to wait for; every thread that starts later has them blocked too.
UniqueFd signals_to_end() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(signalfd(-1, &set, SFD_CLOEXEC));
}

class Server {
 public:
  explicit Server(const ServeOptions& options) : options_(options), log_(terminal_log()) {}

  int run() {
    const UniqueFd signals = signals_to_end();
    if (auto ready = set_up(); !ready) {
      fmt::print(stderr, "error: {}\n", ready.error().message());
      return kExitFailed;
    }
    info(fmt::format("waiting for a front end at {}", options_.socket));
    while (!ended_) {
      pollfd waits[] = {{signals.get(), POLLIN, 0},
                        {backend_->fd(), POLLIN, 0},
                        {control_ ? control_->fd() : -1, POLLIN, 0}};
      if (::poll(waits, std::size(waits), -1) < 0) continue;
      if (waits[0].revents != 0) ended_ = true;
      if (waits[1].revents != 0) backend_->dispatch();
      if (waits[2].revents != 0) control_->dispatch();
    }
    info("ends");
    return kExitDone;
  }

  // The device says farewell to its front end, and then nobody listens to its news any more.
  ~Server() {
    discards_.reset();
    backend_.reset();
  }

 private:
  void info(const std::string& text) const { log_(LogLevel::kInfo, text); }

  Result<void> set_up() {
    BalloonOptions device{.features = options_.features,
                          .write_behind = options_.write_behind,
                          .news = [this] { on_news(); },
                          .log = log_};
    if (options_.features.has(Feature::kFreePageHint)) {
      // Hints are counted by the device; there is nothing here that copies guest memory.
      device.on_free_page_hints = [](std::span<const PageRange>) {};
    }
    if (options_.write_behind) {
      device.discards_owed = [this] {
        if (discards_) discards_->wake();
      };
    }
    if (!options_.trace.empty()) {
      auto trace = record_trace(options_.trace);
      if (!trace) return tl::unexpected(trace.error());
      trace_ = std::move(*trace);
      device.trace = trace_.get();
    }
    auto listener = Listener::at(options_.socket);
    if (!listener) return tl::unexpected(listener.error());
    listener_.emplace(std::move(*listener));
    auto backend = VhostUserBackend::create(
        ::fcntl(listener_->fd(), F_DUPFD_CLOEXEC, 0), make_kernel_discarder(), std::move(device),
        {.connection = [this](bool connected) { on_connection(connected); },
         .memory_changed = [this] { on_memory(); }});
    if (!backend) return tl::unexpected(backend.error());
    backend_ = std::move(*backend);
    if (options_.write_behind) {
      auto owed = sim::EventFd::create();
      if (!owed) return tl::unexpected(owed.error());
      discards_ = std::make_unique<sim::DiscardThread>(backend_->device(), std::move(*owed));
    }
    if (!options_.control.empty()) {
      auto control = ControlServer::create(
          options_.control, backend_->device(),
          {.version = options_.version, .quit = [this] { ended_ = true; }, .log = log_});
      if (!control) return tl::unexpected(control.error());
      control_ = std::move(*control);
    }
    if (options_.target_bytes) return backend_->device().set_target_bytes(*options_.target_bytes);
    return {};
  }

  void on_news() const {
    if (control_) control_->news();
  }
  void on_connection(bool connected) {
    info(connected ? "a front end has connected" : "the front end has gone");
  }
  void on_memory() {
    info(fmt::format("guest memory: {}", format_bytes(backend_->device().memory_bytes())));
  }

  const ServeOptions& options_;
  const LogSink log_;
  bool ended_ = false;
  std::unique_ptr<TraceRecorder> trace_;
  std::optional<Listener> listener_;  // removes its socket in the end
  std::unique_ptr<VhostUserBackend> backend_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<sim::DiscardThread> discards_;
};

}  // namespace

int run_serve(const ServeOptions& options) { return Server(options).run(); }

}  // namespace vballoon::tool
