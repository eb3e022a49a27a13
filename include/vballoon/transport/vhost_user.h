// SPDX-License-Identifier: MIT
// A balloon device that another process reaches over a Unix socket: the back end of vhost-user.
//                                                                                 room: transport
//
// The front end (a hypervisor, user-mode-linux) connects, hands over guest memory, rings and
// eventfds, and forwards what the driver reads and writes of the configuration. There is one front
// end at a time; the next one is accepted when it has gone. Target and actual outlive it, what was
// in the balloon does not.
//
// The guest and what it puts into rings are hostile, as everywhere. The front end may send what it
// likes as well: it gets an error or loses its connection. But whoever shares memory by a file can
// cut that file short, and a touch behind its end kills this process; only let in who may do that.
//
// One thread drives a back end, by run(), or by dispatch() whenever fd() is readable. device() may
// be used from others as its header says, but for what a transport does with it.
#ifndef VBALLOON_TRANSPORT_VHOST_USER_H_
#define VBALLOON_TRANSPORT_VHOST_USER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "vballoon/balloon_device.h"
#include "vballoon/discarder.h"
#include "vballoon/export.h"
#include "vballoon/result.h"

namespace vballoon {

// A listening Unix stream socket of mode 0600, to be given to a back end. A socket that nobody
// listens to any more is replaced. Fails with kInvalidArgument when the path is too long, when a
// server listens there, or when the system refuses.
[[nodiscard]] VBALLOON_EXPORT Result<int> listen_on_unix_socket(const std::string& path);

struct VhostUserOptions {
  // A front end has connected, or has gone. Called on the thread that drives the back end.
  std::function<void(bool connected)> connection = {};
  // The front end has handed over guest memory, or other memory: device().memory_bytes(). Called on
  // the thread that drives the back end, before the driver runs: a place to set the target.
  std::function<void()> memory_changed = {};
};

class VBALLOON_EXPORT VhostUserBackend {
 public:
  // Makes the device, with no memory yet. Its notify_queue, notify_config and wake become messages,
  // the other options are the embedder's. `listener` is a listening Unix stream socket, which
  // belongs to the back end from now on, also when this fails. Fails as BalloonDevice::create()
  // does, with kInvalidArgument for ACCESS_PLATFORM, RING_RESET and NOTIFICATION_DATA, which
  // vhost-user has no place for, and when the system has no descriptors left.
  [[nodiscard]] static Result<std::unique_ptr<VhostUserBackend>> create(
      int listener, std::unique_ptr<Discarder> discarder, BalloonOptions device = {},
      VhostUserOptions options = {});

  ~VhostUserBackend();  // no other call may be running
  VhostUserBackend(const VhostUserBackend&) = delete;
  VhostUserBackend& operator=(const VhostUserBackend&) = delete;

  [[nodiscard]] BalloonDevice& device();

  // For a loop of the embedder's: becomes readable (poll, epoll) when dispatch() has something to
  // do. Stays the back end's.
  [[nodiscard]] int fd() const;
  // Does what there is to do, and no more than some turns of it, without waiting.
  void dispatch();

  // A loop of its own: dispatches until stop() is called, from any thread or a signal handler.
  void run();
  void stop();

 private:
  struct Impl;
  explicit VhostUserBackend(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_TRANSPORT_VHOST_USER_H_
