// SPDX-License-Identifier: MIT
#include "vballoon/transport/vhost_user.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <utility>

#include "base/unique_fd.h"
#include "device/limited_log.h"
#include "transport/event_poll.h"
#include "transport/vhost_user_session.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kListenerTag = 0;
constexpr std::uint64_t kConnectionTag = 1;
constexpr std::uint64_t kWakeTag = 2;
constexpr std::uint64_t kTimerTag = 3;

constexpr std::chrono::milliseconds kNextTry{100};  // when there was no descriptor left

std::optional<std::chrono::nanoseconds> earliest(
    std::initializer_list<std::optional<std::chrono::nanoseconds>> deadlines) {
  std::optional<std::chrono::nanoseconds> first;
  for (const auto& deadline : deadlines) {
    if (deadline && (!first || *deadline < *first)) first = deadline;
  }
  return first;
}

// Writing to a pipe that nobody reads any more is an error and no signal, whatever this process
// does about signals.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &sigpipe(), &before_);
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;
  ~WithoutSigpipe() {
    const timespec at_once{};
    if (!was_pending_) sigtimedwait(&sigpipe(), nullptr, &at_once);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  static const sigset_t& sigpipe() {
    static const sigset_t kSet = [] {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGPIPE);
      return set;
    }();
    return kSet;
  }
  sigset_t before_{};
  bool was_pending_ = false;
};

void take(int fd) {
  std::uint64_t count = 0;
  static_cast<void>(!read(fd, &count, sizeof(count)));
}

// Whether somebody listens on the socket there.
bool is_served(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
         errno != ECONNREFUSED;
}

}  // namespace

Result<int> listen_on_unix_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(Errc::kInvalidArgument, fmt::format("socket path of {} bytes; it may have 1 to {}",
                                                    path.size(), sizeof(address.sun_path) - 1));
  }
  path.copy(address.sun_path, path.size());
  const auto* const bound = reinterpret_cast<const sockaddr*>(&address);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail(Errc::kInvalidArgument, "Unix socket", errno);
  // The file gets the mode of the socket, so that there is no moment at which others may connect.
  int outcome = fchmod(listener.get(), S_IRUSR | S_IWUSR);
  if (outcome == 0) outcome = bind(listener.get(), bound, sizeof(address));
  if (outcome != 0 && errno == EADDRINUSE) {
    struct stat file {};
    if (stat(path.c_str(), &file) != 0 || !S_ISSOCK(file.st_mode)) {
      return fail(Errc::kInvalidArgument, path + " is there already and is no socket");
    }
    if (is_served(address)) {
      return fail(Errc::kInvalidArgument, "a server listens at " + path + " already");
    }
    unlink(path.c_str());
    outcome = bind(listener.get(), bound, sizeof(address));
  }
  if (outcome != 0 || listen(listener.get(), SOMAXCONN) != 0) {
    return fail(Errc::kInvalidArgument, "cannot listen at " + path, errno);
  }
  return listener.release();
}

struct VhostUserBackend::Impl {
  Impl(int listener_in, VhostUserOptions options_in, const BalloonOptions& device_options)
      : options(std::move(options_in)),
        clock(device_options.clock ? device_options.clock : steady_clock()),
        log(device_options.log, clock),
        trace(device_options.trace),
        listener(listener_in),
        wake_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {}

  // From any thread.
  void signal() const {
    const std::uint64_t one = 1;
    static_cast<void>(!write(wake_up.get(), &one, sizeof(one)));
  }
  void wake(std::uint16_t queue) {
    wakes.fetch_or(1U << queue);
    signal();
  }

  void await_front_end() const;
  void accept_front_end();
  void accept_again();
  void end_session();
  void set_timer(std::optional<std::chrono::nanoseconds> deadline) const;
  void dispatch();

  const VhostUserOptions options;
  const Clock clock;
  LimitedLog log;
  Trace* const trace;
  EventPoll poll;
  const UniqueFd listener;
  const UniqueFd wake_up;
  const UniqueFd timer;
  std::atomic<std::uint32_t> wakes{0};  // queues that the device asks to have processed, a bit each
  std::atomic<bool> config_changed{false};
  std::atomic<bool> stopping{false};
  std::optional<std::chrono::nanoseconds> next_try;  // to accept one that waits
  std::unique_ptr<BalloonDevice> device;
  std::optional<vhost_user::Session> session;  // goes before what it stands on
};

// A new descriptor in the poll tells of those that wait already.
void VhostUserBackend::Impl::await_front_end() const {
  static_cast<void>(poll.add(listener.get(), EPOLLIN | EPOLLET, kListenerTag));
}

void VhostUserBackend::Impl::accept_front_end() {
  if (session) return;
  UniqueFd socket;
  do {
    socket.reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  } while (!socket && (errno == EINTR || errno == ECONNABORTED));
  if (!socket) {
    if (errno == EAGAIN) return;
    log.warn(fmt::format("no front end accepted: {}", std::strerror(errno)));
    next_try = clock() + kNextTry;
    return;
  }
  poll.remove(listener.get());
  if (!poll.add(socket.get(), EPOLLIN, kConnectionTag)) return await_front_end();
  session.emplace(*device, std::move(socket), poll, clock, log, options.memory_changed, trace);
  if (options.connection) options.connection(true);
}

// The poll does not tell again of one that it has told of.
void VhostUserBackend::Impl::accept_again() {
  if (!next_try || clock() < *next_try) return;
  next_try.reset();
  accept_front_end();
}

void VhostUserBackend::Impl::end_session() {
  session.reset();
  if (options.connection) options.connection(false);
  await_front_end();
}

void VhostUserBackend::Impl::set_timer(std::optional<std::chrono::nanoseconds> deadline) const {
  itimerspec at{};  // zero: never
  if (deadline) {
    const auto left = std::max(*deadline - clock(), std::chrono::nanoseconds(1));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    at.it_value.tv_sec = seconds.count();
    at.it_value.tv_nsec = (left - seconds).count();
  }
  timerfd_settime(timer.get(), 0, &at, nullptr);
}

void VhostUserBackend::Impl::dispatch() {
  const WithoutSigpipe guard;
  bool over = false;
  for (const epoll_event& event : poll.events()) {
    const std::uint64_t tag = event.data.u64;
    if (tag == kListenerTag) {
      accept_front_end();
    } else if (tag == kWakeTag) {
      take(wake_up.get());
    } else if (tag == kTimerTag) {
      take(timer.get());
    } else if (!session || over) {
      continue;
    } else if (tag == kConnectionTag) {
      over = !session->receive();
    } else if (tag == vhost_user::kBackendTag) {
      session->say_the_rest();
    } else {
      session->kicked(static_cast<std::uint16_t>(tag - vhost_user::kKickTag));
    }
  }
  if (over) end_session();
  accept_again();
  const std::uint32_t queues = wakes.exchange(0);
  const bool changed = config_changed.exchange(false);
  if (session) {
    session->wake(queues);
    if (changed) session->config_changed();
    if (session->serve()) signal();
  }
  set_timer(earliest({device->tick(), session ? session->tick() : std::nullopt, next_try}));
}

// ---- public ------------------------------------------------------------------------------------

VhostUserBackend::VhostUserBackend(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
VhostUserBackend::~VhostUserBackend() {
  const WithoutSigpipe guard;
  impl_->session.reset();
}

Result<std::unique_ptr<VhostUserBackend>> VhostUserBackend::create(
    int listener, std::unique_ptr<Discarder> discarder, BalloonOptions device,
    VhostUserOptions options) {
  auto impl = std::make_unique<Impl>(listener, std::move(options), device);
  constexpr Features kNoPlace{Feature::kAccessPlatform, Feature::kRingReset,
                              Feature::kNotificationData};
  if ((device.features.bits() & kNoPlace.bits()) != 0) {
    return fail(Errc::kInvalidArgument,
                "vhost-user has no place for ACCESS_PLATFORM, RING_RESET and NOTIFICATION_DATA");
  }
  device.notify_queue = [i = impl.get()](std::uint16_t queue) {
    if (i->session) i->session->call(queue);
  };
  device.notify_config = [i = impl.get()] {
    i->config_changed = true;
    i->signal();
  };
  device.wake = [i = impl.get()](std::uint16_t queue) { i->wake(queue); };
  device.poison_while_running = true;
  auto memory = GuestMemory::borrow({});
  if (!memory) return tl::unexpected(memory.error());
  auto made = BalloonDevice::create(std::move(*memory), std::move(discarder), std::move(device));
  if (!made) return tl::unexpected(made.error());
  impl->device = std::move(*made);
  if (!impl->poll.ready() || !impl->poll.add(impl->wake_up.get(), EPOLLIN, kWakeTag) ||
      !impl->poll.add(impl->timer.get(), EPOLLIN, kTimerTag)) {
    return fail(Errc::kInvalidArgument, "no descriptors left for an event loop", errno);
  }
  impl->await_front_end();
  return std::unique_ptr<VhostUserBackend>(new VhostUserBackend(std::move(impl)));
}

BalloonDevice& VhostUserBackend::device() { return *impl_->device; }
int VhostUserBackend::fd() const { return impl_->poll.fd(); }
void VhostUserBackend::dispatch() { impl_->dispatch(); }

void VhostUserBackend::run() {
  while (!impl_->stopping) {
    pollfd wait{.fd = fd(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, -1) > 0) dispatch();
  }
  impl_->stopping = false;
}

void VhostUserBackend::stop() {
  impl_->stopping = true;
  impl_->signal();
}

}  // namespace vballoon
