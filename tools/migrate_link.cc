// SPDX-License-Identifier: MIT
#include "migrate_link.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "migrate_stream.h"

namespace vballoon::tool {
namespace {

// How long a call waits before it looks whether to go on, and how long the destination may do
// nothing at all.
constexpr std::chrono::milliseconds kPatience(100);
constexpr std::chrono::seconds kMostPatience(30);
// What a sleep may take too long; the next bytes make up for that.
constexpr std::chrono::milliseconds kOversleep(10);

}  // namespace

MigrationLink::MigrationLink(int socket, std::optional<std::uint64_t> bandwidth,
                             std::function<bool()> keep_going)
    : socket_(socket), bandwidth_(bandwidth), keep_going_(std::move(keep_going)) {
  const timeval patience{.tv_sec = 0, .tv_usec = std::chrono::microseconds(kPatience).count()};
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

// After a call that moved nothing; error 0 is the end of the stream.
bool MigrationLink::go_on_after(int error, Clock::time_point last_progress) {
  const bool waited = error == EINTR || error == EAGAIN || error == EWOULDBLOCK;
  if (waited && Clock::now() - last_progress < kMostPatience) return keep_going_();
  failure_ = waited ? fmt::format("the destination did nothing for {} s", kMostPatience.count())
                    : fmt::format("the destination is gone: {}",
                                  error == 0 ? "end of its stream" : std::strerror(error));
  return false;
}

bool MigrationLink::send(std::span<iovec> pieces) {
  auto last_progress = Clock::now();
  while (!pieces.empty()) {
    const msghdr message{.msg_name = nullptr,
                         .msg_namelen = 0,
                         .msg_iov = pieces.data(),
                         .msg_iovlen = pieces.size(),
                         .msg_control = nullptr,
                         .msg_controllen = 0,
                         .msg_flags = 0};
    const ssize_t put = ::sendmsg(socket_, &message, MSG_NOSIGNAL);
    if (put < 0) {
      if (!go_on_after(errno, last_progress)) return false;
      continue;
    }
    last_progress = Clock::now();
    bytes_sent_ += static_cast<std::uint64_t>(put);
    auto left = static_cast<std::size_t>(put);
    while (!pieces.empty() && left >= pieces.front().iov_len) {
      left -= pieces.front().iov_len;
      pieces = pieces.subspan(1);
    }
    if (pieces.empty()) break;
    pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + left;
    pieces.front().iov_len -= left;
  }
  return true;
}

bool MigrationLink::receive(std::span<std::byte> into) {
  auto last_progress = Clock::now();
  while (!into.empty()) {
    const ssize_t got = ::recv(socket_, into.data(), into.size(), 0);
    if (got <= 0) {
      if (!go_on_after(got < 0 ? errno : 0, last_progress)) return false;
      continue;
    }
    last_progress = Clock::now();
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

// As long as that many bytes take on it. Time in which nothing was sent is not made up for.
bool MigrationLink::wait_for_the_wire(std::uint64_t bytes) {
  if (!bandwidth_) return true;
  const std::chrono::duration<double> taken(static_cast<double>(bytes) /
                                            static_cast<double>(*bandwidth_));
  if (Clock::now() - free_at_ > kOversleep) free_at_ = Clock::now();
  free_at_ += std::chrono::duration_cast<Clock::duration>(taken);
  while (Clock::now() < free_at_) {
    if (!keep_going_()) return false;
    std::this_thread::sleep_until(std::min(free_at_, Clock::now() + kPatience));
  }
  return true;
}

bool MigrationLink::send_pages(const MemoryRegion& region, PageRange pages) {
  while (pages.count != 0) {
    if (!keep_going_()) return false;
    const PageRange now{pages.first, std::min(pages.count, kMostFramePages)};
    Frame frame{FrameKind::kPages, region.pages().first + now.first, now.count};
    std::array<iovec, 2> pieces{iovec{&frame, sizeof frame},
                                iovec{region.host + (now.first << kPageShift), now.bytes()}};
    if (!send(pieces) || !wait_for_the_wire(sizeof frame + now.bytes())) return false;
    pages = {now.end(), pages.count - now.count};
  }
  return true;
}

std::optional<Arrival> MigrationLink::finish(std::span<const std::byte> device,
                                             std::uint64_t pages) {
  Frame frame{FrameKind::kDevice, 0, device.size()};
  std::array<iovec, 2> pieces{iovec{&frame, sizeof frame},
                              iovec{const_cast<std::byte*>(device.data()), device.size()}};
  if (!send(pieces) || !wait_for_the_wire(sizeof frame + device.size())) return std::nullopt;
  Answer answer;
  Arrival arrival{.ballooned = PageSet(pages)};
  if (!receive(std::as_writable_bytes(std::span(&answer, 1))) ||
      !receive(std::as_writable_bytes(arrival.ballooned.words()))) {
    return std::nullopt;
  }
  arrival.pages = answer.pages;
  arrival.restored = answer.restored == 1;
  return arrival;
}

}  // namespace vballoon::tool
