// SPDX-License-Identifier: MIT
#include "migrate_destination.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <span>
#include <utility>

#include "migrate_stream.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

// False when the stream ends before that.
bool read_all(int socket, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got = ::read(socket, into.data(), into.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

bool write_all(int socket, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t put = ::send(socket, from.data(), from.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    from = from.subspan(static_cast<std::size_t>(put));
  }
  return true;
}

// The other process, after the fork.
class Receiver {
 public:
  Receiver(int socket, std::shared_ptr<const GuestMemory> memory, const BalloonOptions& options)
      : socket_(socket), memory_(std::move(memory)), options_(options) {}

  // True when all went as it should.
  [[nodiscard]] bool run() {
    for (;;) {
      Frame frame;
      if (!read_all(socket_, std::as_writable_bytes(std::span(&frame, 1)))) return false;
      if (frame.kind == FrameKind::kDevice) return receive_device(frame.count);
      if (frame.kind != FrameKind::kPages || !receive_pages(frame)) return false;
    }
  }

 private:
  [[nodiscard]] bool receive_pages(const Frame& frame) {
    if (frame.count > kMostFramePages) return false;
    const std::uint64_t bytes = frame.count << kPageShift;
    std::byte* const host = memory_->host(frame.first << kPageShift, bytes);
    pages_ += frame.count;
    return host != nullptr && read_all(socket_, {host, bytes});
  }

  [[nodiscard]] bool receive_device(std::uint64_t bytes) {
    std::vector<std::byte> state(bytes);
    if (!read_all(socket_, state)) return false;
    auto device = BalloonDevice::create(memory_, make_kernel_discarder(), options_);
    if (!device) return false;
    // Memory stays as it came: what is owed was not sent, or is nobody's.
    (*device)->inhibit_discards();
    const Answer answer{pages_, (*device)->restore(state) ? std::uint64_t{1} : 0};
    const PageSet ballooned = ballooned_pages_of(**device, *memory_);
    return write_all(socket_, std::as_bytes(std::span(&answer, 1))) &&
           write_all(socket_, std::as_bytes(ballooned.words()));
  }

  const int socket_;
  const std::shared_ptr<const GuestMemory> memory_;
  const BalloonOptions options_;
  std::uint64_t pages_ = 0;
};

}  // namespace

Result<std::unique_ptr<Destination>> Destination::start(const std::vector<RegionLayout>& layout,
                                                        const BalloonOptions& device) {
  auto memory = GuestMemory::allocate(layout, {Backing::kMemfd, ThpMode::kOff});
  if (!memory) return tl::unexpected(memory.error());
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(Errc::kNotSupported, "a socket for the migration", errno);
  }
  const pid_t process = ::fork();
  if (process == 0) {
    // Ctrl-C goes to both; the source decides, and the end of the stream ends this process.
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_DFL);
    ::close(ends[0]);
    const bool done = Receiver(ends[1], *memory, device).run();
    ::_exit(done ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  const int error = errno;
  ::close(ends[1]);
  if (process < 0) {
    ::close(ends[0]);
    return fail(Errc::kNotSupported, "a second process", error);
  }
  return std::unique_ptr<Destination>(new Destination(std::move(*memory), ends[0], process));
}

Destination::~Destination() {
  ::close(socket_);
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace vballoon::tool
