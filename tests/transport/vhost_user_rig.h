// SPDX-License-Identifier: MIT
// A back end of vhost-user behind a socket, and a guest on the other side that the test drives.
#ifndef VBALLOON_TESTS_TRANSPORT_VHOST_USER_RIG_H_
#define VBALLOON_TESTS_TRANSPORT_VHOST_USER_RIG_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "by_default.h"
#include "device/test_messages.h"
#include "memory/test_discarders.h"
#include "ring/driver_queue.h"
#include "transport/shared_guest_memory.h"
#include "transport/vhost_user_front_end.h"
#include "vballoon/transport/vhost_user.h"

namespace vballoon::testing {

// A path for a socket, in a folder of its own that goes with it.
class SocketPath {
 public:
  SocketPath();
  SocketPath(const SocketPath&) = delete;
  SocketPath& operator=(const SocketPath&) = delete;
  ~SocketPath();
  [[nodiscard]] const std::string& str() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

// No thread: it works when it is let.
class TestBackEnd {
 public:
  // The discarder asks the kernel unless another one is given.
  explicit TestBackEnd(BalloonOptions options = {}, std::unique_ptr<Discarder> discarder = nullptr);

  [[nodiscard]] const std::string& path() const { return path_.str(); }
  [[nodiscard]] VhostUserBackend& back_end() { return *back_end_; }
  [[nodiscard]] BalloonDevice& device() { return back_end_->device(); }
  // Now, or when that time has passed.
  [[nodiscard]] bool has_work(std::chrono::milliseconds limit = {}) const;
  // Until there is nothing to do. Throws when that does not come.
  void work();
  // Any front end loses its connection.
  void end() { back_end_.reset(); }

  // What the embedder was told.
  std::vector<bool> connections;
  std::vector<std::uint64_t> memory_bytes;
  std::vector<std::string> log;

 private:
  SocketPath path_;
  std::unique_ptr<VhostUserBackend> back_end_;
};

struct GuestSetup {
  FrontEndOptions front_end = {};     // let_work is the guest's own
  bool packed = packed_by_default();  // if offered
  std::uint16_t queue_size = 64;
};

// A driver made by hand, whose rings and payloads lie in the upper half of the second region.
class VhostUserGuest {
 public:
  static constexpr std::uint64_t kRings = 0xA00 * kPageSize;
  static constexpr std::uint64_t kRingStride = 0x10 * kPageSize;
  static constexpr std::uint64_t kPayloads = 0xB00 * kPageSize;

  // Connects.
  explicit VhostUserGuest(TestBackEnd& back_end, GuestSetup setup = {});

  // Accepts all that is offered but for packed rings, if it has none, and hands memory over.
  VhostUserGuest& negotiate();
  // Says the same features again, as a front end that goes on or has another driver.
  VhostUserGuest& negotiate_again();
  // Sets up rings, up to where kicks are awaited.
  VhostUserGuest& set_up_rings();
  VhostUserGuest& start();
  [[nodiscard]] QueueConfig ring_config(std::uint16_t index) const;

  void send(std::uint16_t index, const Message& message);
  void serve(std::uint16_t index) { front_end_->notify(index); }
  void inflate(std::initializer_list<std::uint32_t> pfns);
  void deflate(std::initializer_list<std::uint32_t> pfns);
  // The used lengths of the buffers that came back since the last call.
  std::vector<std::uint32_t> completed(std::uint16_t index);

  [[nodiscard]] VhostUserFrontEnd& front_end() { return *front_end_; }
  [[nodiscard]] VhostUserSocket& socket() { return front_end_->socket(); }
  [[nodiscard]] SharedGuestMemory& memory() { return memory_; }
  [[nodiscard]] DriverQueue& queue(std::uint16_t index) { return *queues_.at(index); }
  // Its front end dies without a word, and another one connects, there or to another back end.
  VhostUserGuest& connect_anew();
  VhostUserGuest& move_to(TestBackEnd& other);

 private:
  TestBackEnd* back_end_;
  const GuestSetup setup_;
  SharedGuestMemory memory_;
  std::unique_ptr<VhostUserFrontEnd> front_end_;
  std::array<std::unique_ptr<DriverQueue>, kMaxBalloonQueues> queues_;
  Features accepted_;
  std::uint64_t next_payload_ = kPayloads;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_TRANSPORT_VHOST_USER_RIG_H_
