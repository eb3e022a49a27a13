// SPDX-License-Identifier: MIT
#include "control_server.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "qmp_message.h"

namespace vballoon::tool {
namespace {

constexpr int kMaxRounds = 256;  // of commands, one of each client, in one dispatch()
constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::chrono::seconds kAcceptPause{1};

// Takes the number out, so that the descriptor is not readable any more.
void drain(int fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

void send_refusal(int socket) {
  const std::string line = answer_line(refuse(kGenericError, "Too many clients are connected"), {});
  [[maybe_unused]] const auto sent =
      ::send(socket, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::create(const std::string& path,
                                                             BalloonDevice& device,
                                                             ControlOptions options) {
  auto listener = Listener::at(path);
  if (!listener) return tl::unexpected(listener.error());
  std::unique_ptr<ControlServer> server(
      new ControlServer(std::move(*listener), device, std::move(options)));
  if (auto opened = server->open(); !opened) return tl::unexpected(opened.error());
  return server;
}

Result<std::unique_ptr<ControlServer>> ControlServer::create(int listener, BalloonDevice& device,
                                                             ControlOptions options) {
  std::unique_ptr<ControlServer> server(
      new ControlServer(Listener(UniqueFd(listener)), device, std::move(options)));
  if (auto opened = server->open(); !opened) return tl::unexpected(opened.error());
  return server;
}

ControlServer::ControlServer(Listener listener, BalloonDevice& device, ControlOptions options)
    : listener_(std::move(listener)),
      clock_(options.clock),
      quit_(options.quit),
      version_(options.version),
      log_(options.log, options.clock),
      control_(device, std::move(options)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
      news_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Result<void> ControlServer::open() {
  for (const int fd : {listener_.fd(), timer_.get(), news_fd_.get()}) {
    if (!watch(fd, EPOLLIN)) return fail(Errc::kNotSupported, "control socket", errno);
  }
  look();
  arm_timer(false);
  return {};
}

bool ControlServer::watch(int fd, std::uint32_t events) const {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void ControlServer::news() {
  if (news_pending_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(news_fd_.get(), &one, sizeof one);
}

void ControlServer::dispatch() {
  std::array<epoll_event, kMaxClients + 3> events{};
  const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < ready; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const int fd = event.data.fd;
    if (fd == listener_.fd()) {
      accept_clients();
    } else if (const auto client = clients_.find(fd); client != clients_.end()) {
      read_from(client->second, event.events);
    } else {
      drain(fd);
    }
  }
  // Whatever comes from here on rings again.
  news_pending_ = false;
  run_commands();
}

void ControlServer::run_commands() {
  look();
  bool progress = true;
  for (int round = 0; progress && round < kMaxRounds; ++round) {
    progress = false;
    for (auto& [fd, client] : clients_) {
      const bool stepped = client.session.step();
      progress = progress || stepped;
    }
    // Before the next command, so that events stand where they belong.
    if (progress) look();
    for (auto& [fd, client] : clients_) write_to(client);
  }
  end_clients();
  if (accept_again_ && clock_() >= *accept_again_ && watch(listener_.fd(), EPOLLIN)) {
    accept_again_.reset();
  }
  for (auto& [fd, client] : clients_) set_interest(client);
  arm_timer(progress);
  if (control_.quit_wanted() && quit_) quit_();
}

void ControlServer::look() {
  control_.look([this](std::string_view line) {
    for (auto& [fd, client] : clients_) client.session.send_event(line);
  });
}

void ControlServer::accept_clients() {
  for (std::size_t i = 0; i < kMaxClients; ++i) {
    UniqueFd socket(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    const int fd = socket.get();
    if (fd < 0) {
      const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
      if (!nobody) pause_accepting();
      return;
    }
    if (clients_.size() == kMaxClients) {
      log_.warn("control socket: a client too many was refused");
      send_refusal(fd);
      continue;
    }
    if (!watch(fd, 0)) return pause_accepting();
    clients_.try_emplace(fd, Client{std::move(socket), {version_, control_.commands()}});
  }
}

// The system has no descriptors left. The listener stays readable, so look away for a while.
void ControlServer::pause_accepting() {
  log_.warn("control socket: the system has no room for a client");
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
  accept_again_ = clock_() + kAcceptPause;
}

void ControlServer::read_from(Client& client, std::uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) client.gone = true;
  // What a client that has gone sent before is carried out, but for what waits.
  if (client.gone) client.session.output().clear();
  if (client.finished || !client.session.wants_input()) return;
  std::array<char, kReadBytes> bytes;
  const auto got = ::recv(client.socket.get(), bytes.data(), bytes.size(), 0);
  if (got > 0) {
    client.session.receive({bytes.data(), static_cast<std::size_t>(got)});
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    client.finished = true;
  }
}

void ControlServer::write_to(Client& client) {
  std::string& output = client.session.output();
  if (client.gone) output.clear();
  if (output.empty()) return;
  const auto sent =
      ::send(client.socket.get(), output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) {
    output.erase(0, static_cast<std::size_t>(sent));
  } else if (errno != EAGAIN && errno != EINTR) {
    client.gone = true;
    output.clear();
  }
}

void ControlServer::end_clients() {
  std::erase_if(clients_, [this](const auto& entry) {
    const Client& client = entry.second;
    if (client.session.overflowed()) {
      log_.warn("control socket: a client that does not read was dropped");
      return true;
    }
    if (client.gone) return client.finished || client.session.waiting();
    return client.finished && !client.session.waiting() && client.session.output().empty();
  });
}

// A client that has finished or is not to send more would be readable all the time.
void ControlServer::set_interest(Client& client) const {
  std::uint32_t wanted = 0;
  if (!client.finished && client.session.wants_input()) wanted |= EPOLLIN;
  if (!client.session.output().empty()) wanted |= EPOLLOUT;
  if (wanted == client.interest) return;
  epoll_event event{};
  event.events = wanted;
  event.data.fd = client.socket.get();
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.socket.get(), &event);
  client.interest = wanted;
}

// For the next thing that time makes due, or at once if there is more to do.
void ControlServer::arm_timer(bool again) const {
  std::optional<std::chrono::nanoseconds> next = control_.next_time();
  if (accept_again_) next = std::min(next.value_or(*accept_again_), *accept_again_);
  itimerspec setting{};
  if (again || next) {
    const auto left = again ? std::chrono::nanoseconds(1)
                            : std::max(*next - clock_(), std::chrono::nanoseconds(1));
    setting.it_value.tv_sec = left.count() / 1'000'000'000;
    setting.it_value.tv_nsec = left.count() % 1'000'000'000;
  }
  ::timerfd_settime(timer_.get(), 0, &setting, nullptr);
}

}  // namespace vballoon::tool
