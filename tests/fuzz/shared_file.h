// SPDX-License-Identifier: MIT
// What a front end of vhost-user has: guest memory in a file, descriptors, and a way to connect.
#ifndef VBALLOON_TESTS_FUZZ_SHARED_FILE_H_
#define VBALLOON_TESTS_FUZZ_SHARED_FILE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "fuzz/fuzz_input.h"
#include "transport/vhost_user_socket.h"
#include "vballoon/guest_memory.h"

namespace vballoon::fuzz {

inline constexpr std::uint64_t kFilePages = 32;
inline constexpr std::uint64_t kFileBytes = kFilePages * kPageSize;
// The regions of a front end that keeps the rules: guest page, pages, address there, page of the
// file. Rings lie in the first pages of the first, one queue a page.
struct Region {
  std::uint64_t guest;
  std::uint64_t bytes;
  std::uint64_t user;
  std::uint64_t offset;
};
inline constexpr std::array kRegions{Region{0, 16 * kPageSize, 0x70'0000'0000, 8 * kPageSize},
                                     Region{24 * kPageSize, 8 * kPageSize, 0x30'0000'0000, 0}};

struct File {
  File() : fd(memfd_create("fuzz", MFD_CLOEXEC)) {
    check(ftruncate(fd.get(), kFileBytes) == 0, "there is a memory file");
    void* const at = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    check(at != MAP_FAILED, "it can be mapped");
    bytes = static_cast<std::byte*>(at);
  }
  [[nodiscard]] std::byte* region(std::size_t i) const { return bytes + kRegions[i].offset; }

  UniqueFd fd;
  std::byte* bytes = nullptr;
};

inline const File& file() {
  static const File kFile;
  return kFile;
}

inline const std::shared_ptr<const GuestMemory>& guest_memory() {
  static const auto memory = [] {
    std::vector<BorrowedRegion> regions;
    for (std::size_t i = 0; i < kRegions.size(); ++i) {
      regions.push_back({.guest_address = kRegions[i].guest,
                         .bytes = kRegions[i].bytes,
                         .host = file().region(i),
                         .shared = true});
    }
    return GuestMemory::borrow(regions).value();
  }();
  return memory;
}

inline std::size_t open_files() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// A listening socket with a name of the kernel's choice.
struct Listener {
  Listener() : fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    address.sun_family = AF_UNIX;
    auto* const bound = reinterpret_cast<sockaddr*>(&address);
    check(bind(fd, bound, sizeof(sa_family_t)) == 0 && listen(fd, 4) == 0, "a socket listens");
    length = sizeof(address);
    check(getsockname(fd, bound, &length) == 0, "it has a name");
  }
  [[nodiscard]] testing::VhostUserSocket connect() const {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0,
          "a front end connects");
    return testing::VhostUserSocket(std::move(socket));
  }

  int fd;  // goes to the back end
  sockaddr_un address{};
  socklen_t length = 0;
};

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    check(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0, "there are pipes");
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

inline testing::vhost::Bytes describe(const Region& region) {
  return testing::vhost::bytes_of(region.guest, region.bytes, region.user, region.offset);
}

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_SHARED_FILE_H_
