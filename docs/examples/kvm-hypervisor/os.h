// SPDX-License-Identifier: MIT
// What the operating system gives, as objects that give it back.
#ifndef KVM_HYPERVISOR_OS_H_
#define KVM_HYPERVISOR_OS_H_

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <vector>

// What a call answers, unless it failed.
inline int check(int answer, const char* call) {
  if (answer < 0) throw std::system_error(errno, std::generic_category(), call);
  return answer;
}

class Fd {
 public:
  Fd(int fd, const char* call) : fd_(check(fd, call)) {}
  ~Fd() { close(fd_); }
  Fd& operator=(Fd&&) = delete;  // nor can it be copied
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

class Mapping {
 public:
  Mapping(std::size_t bytes, int flags, int fd = -1)
      : bytes_(bytes), address_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0)) {
    if (address_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  }
  ~Mapping() { munmap(address_, bytes_); }
  Mapping& operator=(Mapping&&) = delete;  // nor can it be copied
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] void* address() const { return address_; }

  // How much of it is in memory.
  [[nodiscard]] std::uint64_t resident_bytes() const {
    std::vector<unsigned char> pages(bytes_ / 4096);
    check(mincore(address_, bytes_, pages.data()), "mincore");
    std::uint64_t resident = 0;
    for (const unsigned char page : pages) resident += page & 1;
    return resident * 4096;
  }

 private:
  std::size_t bytes_;
  void* address_;
};

#endif  // KVM_HYPERVISOR_OS_H_
