// SPDX-License-Identifier: MIT
// A file descriptor that is closed when nobody holds it any more.
#ifndef VBALLOON_SRC_BASE_UNIQUE_FD_H_
#define VBALLOON_SRC_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace vballoon {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  // The caller's from now on.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_BASE_UNIQUE_FD_H_
